"""Scores of the runs, and the tables made of them: on dev after each stage, on the test side at last."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from codiemb.config.result import read_scores
from codiemb.tables import pipe_table, spread
from experiments.steps import ROOT
from experiments.three_stage.plan import ARMS, Arm, all_steps

Scores = Mapping[str, float]  # by task, as fractions


class ArmScores(NamedTuple):
    """What an arm reached."""

    dev: list[Scores]  # of each seed
    test: list[Scores]  # likewise
    fused: Scores  # of their fusion, on the test side

    @property
    def chosen(self) -> int:
        """The seed that is best on the dev side: who keeps only one must choose without the test side."""
        return max(range(len(self.dev)), key=lambda seed: mean(self.dev[seed]))


class Gain(NamedTuple):
    """What one stage adds to the mean over tasks, in points."""

    stage: str
    without: list[float]  # one value a seed
    with_it: list[float]

    @property
    def points(self) -> float:
        """Difference of the means."""
        return fmean(self.with_it) - fmean(self.without)

    @property
    def error(self) -> float:
        """Standard error of the difference, paired by fine-tuning seed; 0 with a single model on one side."""
        if min(len(self.with_it), len(self.without)) < 2:
            return 0.0
        differences = [b - a for a, b in zip(self.without, self.with_it, strict=True)]
        return float(stdev(differences) / len(differences) ** 0.5)


def mean(scores: Scores) -> float:
    """Over tasks, in percent."""
    return 100 * fmean(scores.values())


def read_arm(arm: Arm) -> ArmScores:
    """The scores that an arm's finished sweep and fusion left."""
    seeds = [read_scores(folder) for folder in sorted((ROOT / arm.finetune).glob("[0-9]*"))]
    evaluation = ROOT / arm.fuse / "evaluation"
    test = [_evaluation(evaluation / f"checkpoint_{n}.json") for n in range(1, len(seeds) + 1)]
    return ArmScores(seeds, test, read_scores(ROOT / arm.fuse))


def dev_table() -> str:
    """All finished runs but the fusions, on the dev side: what each stage did to the model."""
    rows = []
    for step in all_steps():
        scores = [result["scores"] for result in step.results() if result["scores"]]
        if scores and step.has_finished() and "stage=fuse" not in step.overrides:
            rows.append((step.name, scores))
    return score_table("dev side", rows) if rows else ""


def test_table(arms: Mapping[str, ArmScores]) -> str:
    """The final table: seeds of every arm, the one that dev would choose, and their fusion."""
    rows: list[tuple[str, Sequence[Scores]]] = []
    for arm in ARMS:
        if arm.name in arms:
            scores = arms[arm.name]
            rows.append((f"{arm.title}, {len(scores.test)} seeds", scores.test))
            rows.append((f"{arm.title}, best seed on dev", [scores.test[scores.chosen]]))
            rows.append((f"{arm.title}, fused", [scores.fused]))
    return score_table("test side", rows)


def score_table(title: str, rows: Sequence[tuple[str, Sequence[Scores]]]) -> str:
    """Markdown: a row per model, a column per task and their mean; several seeds as mean ± sd."""
    tasks = list(rows[0][1][0])
    lines = [[title, *map(_short, tasks), "mean"]]
    for name, scores in rows:
        cells = [spread([100 * one[task] for one in scores]) for task in tasks]
        lines.append([name, *cells, spread([mean(one) for one in scores])])
    return pipe_table(lines, aligned=True)


def stage_gains(arms: Mapping[str, ArmScores]) -> list[Gain]:
    """Each stage against the same model without it, on the test side."""
    means = {name: [mean(scores) for scores in arm.test] for name, arm in arms.items()}
    full = arms["full"]
    fused = [mean(full.fused)]
    return [
        Gain("1 pretrain (before align)", means["no_pretrain"], means["full"]),
        Gain("1 pretrain (without align)", means["neither"], means["no_align"]),
        Gain("2 align (after pretrain)", means["no_align"], means["full"]),
        Gain("2 align (without pretrain)", means["neither"], means["no_pretrain"]),
        Gain("fusion, against the mean seed", means["full"], fused),
        Gain("fusion, against the best seed on dev", [mean(full.test[full.chosen])], fused),
    ]


def gain_table(gains: Sequence[Gain]) -> str:
    """Markdown: what each stage adds; the error is that of the difference, paired by fine-tuning seed."""
    lines = [["stage", "without", "with", "gain ± standard error"]]
    for gain in gains:
        error = f" ± {gain.error:.2f}" if gain.error else ""
        lines.append([gain.stage, spread(gain.without), spread(gain.with_it), f"{gain.points:+.2f}{error}"])
    return pipe_table(lines, aligned=True)


def minutes_table() -> str:
    """Markdown: what each stage took, over all arms, as the runs recorded it."""
    by_stage: dict[str, float] = {}
    for step in all_steps():
        stage = step.name.rpartition("/")[2].removesuffix("_random")
        by_stage[stage] = by_stage.get(stage, 0.0) + step.seconds() / 60
    total = sum(by_stage.values())
    lines = [["", *by_stage, "all"], ["minutes", *(f"{m:.1f}" for m in [*by_stage.values(), total])]]
    return pipe_table(lines, aligned=True)


def _short(task: str) -> str:
    """Fits a column: FramesPairClassification is "Frames pairs"."""
    for long, short in (
        ("PairClassification", " pairs"),
        ("Classification", " class."),
        ("Clustering", " clust."),
    ):
        task = task.replace(long, short)
    return task.replace("Retrieval", " retr.").replace("Reranking", " rerank.").replace("STS", " STS")


def _evaluation(file: Path) -> Scores:
    return {row["task"]: row["score"] for row in json.loads(file.read_text("utf-8"))["results"]}
