"""What the laboratory's sweeps have left: scores of every run, and differences with their standard errors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import NamedTuple

from scipy.stats import t as student

from codiemb.config.result import RESULT_FILE
from codiemb.config.sweep import read_jobs
from codiemb.json_files import read_jsonl
from experiments.laboratory.material import FRAMES, Material
from experiments.laboratory.material import OUTSIDE as OUTSIDE_TASKS
from experiments.laboratory.question import Contrast, Question
from experiments.laboratory.questions import FUSED, own_steps, owner
from experiments.steps import ROOT

KINDS = ("IR", "STS")
MEANS = (*KINDS, "mean")
OUTSIDE = "outside"  # the mean of the tasks outside of the training data
MIN_SEEDS = 3
GEOMETRY = ("mean_cosine", "uniformity", "effective_rank")
LEVEL, POWER = 0.05, 0.8


class Run(NamedTuple):
    """One finished run: scores in percent by task, and their means by kind of task."""

    arm: str
    seed: int
    scores: Mapping[str, float]
    seconds: float
    split: str = "test"
    accelerator: str = "cpu"
    geometry: Mapping[str, float] = MappingProxyType(
        {}
    )  # of its last batches of documents, as `ir/mean_cosine`


class Difference(NamedTuple):
    """A contrast's mean over seeds and the standard error of that mean.

    Attributes:
        mean: over the seeds.
        error: its standard error.
        num_seeds: how many.
        looks: how often it may be looked at before it is decided; each look has its share of the level
            (Bonferroni), so that all of them together find an effect where there is none in 5 % of cases.
    """

    mean: float
    error: float
    num_seeds: int
    looks: int = 1

    @property
    def beyond_noise(self) -> bool:
        """Whether 0 lies outside of the 95 % interval (Student's t: 4.3 standard errors at three seeds)."""
        return abs(self.mean) > self._quantile(1 - LEVEL / self.looks / 2) * self.error

    @property
    def smallest(self) -> float:
        """The true difference that four of five such experiments would find, at the spread seen here."""
        return (self._quantile(1 - LEVEL / self.looks / 2) + self._quantile(POWER)) * self.error

    def _quantile(self, probability: float) -> float:
        return float(student.ppf(probability, self.num_seeds - 1))


def question_runs(question: Question, root: Path = ROOT) -> list[Run]:
    """All finished runs on the question's arms, its own and borrowed ones, in the order of its arms."""
    if question.name == "fusion":
        folders = [root / step.folder for step in own_steps(question)]
        fused = [run for folder in folders for run in sweep_runs(folder, question.material)]
        return chosen_on_dev(fused)
    found = []
    for arm in [*(borrowed for _, borrowed in question.borrowed), *question.arms]:
        runs_it = owner(question, arm)
        for step in (runs_it.step(arm), *(runs_it.more(arm, seed) for seed in runs_it.more_seeds)):
            found += sweep_runs(root / step.folder, question.material, arm)
    return found


def sweep_runs(folder: Path, material: Material, arm: str | None = None) -> list[Run]:
    """The jobs of a sweep that have scores; without a name for all of them, each a fusion."""
    runs = []
    for job in read_jobs(folder):
        if not job["scores"]:
            continue
        chosen = dict(override.lstrip("+").split("=", 1) for override in job["overrides"])
        result = json.loads((folder / job["job"] / RESULT_FILE).read_text("utf-8"))
        scores = with_means(job["scores"], material)
        run = Run(arm or _fusion(chosen), int(chosen["seed"]), scores, result["seconds"])
        where = {
            "split": chosen.get("task.split", "test"),
            "accelerator": chosen.get("trainer.accelerator", "cpu"),
        }
        runs.append(run._replace(**where, geometry=geometry(folder / job["job"] / "metrics.jsonl")))
    return runs


def geometry(metrics: Path) -> dict[str, float]:
    """The last number of each kind and task that a run has logged, as `ir/mean_cosine`."""
    found = {}
    for line in read_jsonl(metrics) if metrics.is_file() else ():
        for key, value in line.items():
            kind, _, task = key.removeprefix("train/").partition("/")
            if kind in GEOMETRY:
                found[f"{task}/{kind}"] = value
    return found


def with_means(scores: Mapping[str, float], material: Material = FRAMES) -> dict[str, float]:
    """In percent, with the mean of each kind of task and of the kinds; text outside of them apart."""
    percent = {task: 100 * scores[task] for task in material.tasks}
    means = {kind: fmean(percent[task] for task in tasks) for kind, tasks in material.groups.items()}
    found = percent | means | {"mean": fmean(means.values())}
    elsewhere = {task: 100 * scores[task] for task in OUTSIDE_TASKS if task in scores}
    return found | elsewhere | ({OUTSIDE: fmean(elsewhere.values())} if elsewhere else {})


def columns(arms: Mapping[str, Sequence[Run]]) -> tuple[str, ...]:
    """The means that all runs have: of IR, of STS, of both, and of text outside where it was scored."""
    outside = all(OUTSIDE in run.scores for runs in arms.values() for run in runs)
    return (*MEANS, OUTSIDE) if outside else MEANS


def chosen_on_dev(runs: Sequence[Run]) -> list[Run]:
    """The test runs, and for each seed the single checkpoint and the delta fusion that were best on dev."""
    test = [run for run in runs if run.split == "test"]
    chosen = []
    for family in ("alone", "delta"):
        for seed in sorted({run.seed for run in test}):
            candidates = [r for r in runs if r.seed == seed and r.split == "dev" and r.arm.startswith(family)]
            if candidates:
                best = max(candidates, key=lambda run: run.scores["mean"]).arm
                chosen += [
                    run._replace(arm=f"{family}, best on dev", seconds=0.0)
                    for run in test
                    if run.seed == seed and run.arm == best
                ]
    return [*test, *chosen]


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, in order of seed."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return {arm: sorted(of_arm, key=lambda run: run.seed) for arm, of_arm in arms.items()}


def difference(
    contrast: Contrast, arms: Mapping[str, Sequence[Run]], column: str, looks: int = 1
) -> Difference | None:
    """The contrast over the seeds that all its arms have; None for fewer than three."""
    scores = {arm: {run.seed: run.scores[column] for run in arms.get(arm, ())} for arm in contrast.weights}
    seeds = set.intersection(*(set(of_arm) for of_arm in scores.values()))
    if len(seeds) < MIN_SEEDS:
        return None
    values = [sum(w * scores[arm][seed] for arm, w in contrast.weights.items()) for seed in sorted(seeds)]
    return Difference(fmean(values), stdev(values) / len(values) ** 0.5, len(values), looks)


def looks_taken(question: Question, arms: Mapping[str, Sequence[Run]]) -> int:
    """1, or as many as a sequential experiment may take, once any comparison has been given a further seed.

    An arm that it shares may have got one for another question's sake: that is no look of this one.
    """
    seeds = {arm: {run.seed for run in runs} for arm, runs in arms.items()}
    compared = (
        set.intersection(*(seeds.get(arm, set()) for arm in each.weights)) for each in question.contrasts
    )
    sequential = any(not shared.isdisjoint(question.more_seeds) for shared in compared)
    return possible_looks(question) if sequential else 1


def possible_looks(question: Question) -> int:
    """At its own seeds, and after each further one."""
    return 1 + len(question.more_seeds)


def _fusion(chosen: Mapping[str, str]) -> str:
    """A fusion's method."""
    if chosen.get("fuse.method") == "uniform":
        return "soup"
    if chosen.get("fuse.method") == "weighted":
        alone = chosen["fuse.weights"].strip("[]").split(",").index("1")
        return f"alone, {FUSED[alone][1]}"
    return f"delta, {chosen['fuse.granularity']}, exponent {chosen['fuse.exponent']}"
