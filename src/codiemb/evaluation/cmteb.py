"""The CMTEB table: 31 tasks, six category means, two overall means, beside the published results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codiemb.cmteb_names import CMTEB_TYPES
from codiemb.evaluation.published import PUBLISHED, Published
from codiemb.evaluation.result_files import Results, read_results
from codiemb.tables import Sheet, complete_mean

BENCHMARK = "MTEB(cmn, v1)"
# mteb's task types in the order of the published tables, with their column headers
CATEGORIES = {
    "Classification": "Class.",
    "Clustering": "Clust.",
    "PairClassification": "PairCl.",
    "Reranking": "Rerank.",
    "Retrieval": "Retr.",
    "STS": "STS",
}
SENTIMENT = "MultilingualSentiment"
CONVENTION = f"{SENTIMENT}: on validation only, in all rows, as published; mteb 2.26 adds test."


@dataclass(frozen=True)
class CmtebTable:
    """All values in percent, as published; None where a task is missing.

    mean_task is the mean over the 31 tasks, mean_type the mean of the six category means, as mteb's
    leaderboard defines them.
    """

    tasks: dict[str, float | None]
    categories: dict[str, float | None]
    mean_task: float | None
    mean_type: float | None
    published: tuple[Published, ...] = PUBLISHED
    left_out: Mapping[str, str] = field(default_factory=dict)  # task: why its score is not taken

    @property
    def coverage(self) -> str:
        """How many tasks have a score, as "31 of 31"."""
        return _coverage(list(self.tasks.values()))

    @property
    def missing(self) -> tuple[str, ...]:
        """The tasks without a score, with the reason where there is one."""
        names = [name for name, value in self.tasks.items() if value is None]
        return tuple(name + (f" ({self.left_out[name]})" if name in self.left_out else "") for name in names)

    @property
    def cells(self) -> tuple[str, ...]:
        """Mean(Task), Mean(Type) and the categories; for an incomplete mean, of how many tasks."""
        types = CMTEB_TYPES
        parts = {kind: [self.tasks[name] for name, of in types.items() if of == kind] for kind in CATEGORIES}
        return (
            _mean_cell(self.mean_task, list(self.tasks.values())),
            "–" if self.mean_type is None else f"{self.mean_type:.2f}",
            *(_mean_cell(self.categories[kind], parts[kind]) for kind in CATEGORIES),
        )

    def sheet(self, model: str = "this model") -> Sheet:
        """Published rows, then this model's. An incomplete mean says how many of its tasks there are."""
        return cmteb_sheet({model: self}, f"CMTEB, {self.coverage} tasks")


def cmteb_sheet(rows: Mapping[str, CmtebTable], title: str = "CMTEB") -> Sheet:
    """Published rows, then a row for each model, with what is missing below."""
    published = [
        (row.model + "†" * bool(row.note), *(f"{value:.2f}" for value in row[1:9])) for row in PUBLISHED
    ]
    notes = [f"† {row.note}" for row in PUBLISHED if row.note]
    if any(table.tasks.get(SENTIMENT) is not None for table in rows.values()):
        notes.append(CONVENTION)
    return Sheet(
        title=title,
        header=("Model", "Mean(Task)", "Mean(Type)", *CATEGORIES.values()),
        rows=(*published, *((model, *table.cells) for model, table in rows.items())),
        notes=(*notes, *(_missing_note(model, table) for model, table in rows.items() if table.missing)),
    )


def cmteb_table(scores: Mapping[str, float] | Path) -> CmtebTable:
    """Means over mteb's main scores; no mean is given over part of its tasks.

    Args:
        scores: fractions by task name; or a folder of results: a run of ours, or mteb's files (1.2 to 2.x).

    Raises:
        UserError: a folder without results, or with those of several models.
        ValueError: a task that is none of the 31, or a score that is no fraction.
    """
    if isinstance(scores, Path):
        return cmteb_row(read_results(scores))
    types = CMTEB_TYPES
    _check_scores(scores, types)
    tasks = {name: 100 * scores[name] if name in scores else None for name in types}
    categories = {
        kind: complete_mean([tasks[name] for name in types if types[name] == kind]) for kind in CATEGORIES
    }
    mean, type_mean = complete_mean(list(tasks.values())), complete_mean(list(categories.values()))
    return CmtebTable(tasks, categories, mean, type_mean)


def cmteb_row(results: Results) -> CmtebTable:
    """The table of results that were read; their tasks that are none of the 31 are passed over."""
    types = CMTEB_TYPES
    table = cmteb_table({name: score for name, score in results.scores.items() if name in types})
    left_out = {name: why for name, why in results.left_out.items() if name in types}
    return CmtebTable(
        table.tasks, table.categories, table.mean_task, table.mean_type, table.published, left_out
    )


def _check_scores(scores: Mapping[str, float], known: Mapping[str, str]) -> None:
    if unknown := sorted(scores.keys() - known.keys()):
        raise ValueError(f"not among the {len(known)} tasks of {BENCHMARK}: {', '.join(unknown)}")
    for name, score in scores.items():
        if not math.isfinite(score) or abs(score) > 1:
            raise ValueError(f"{name}: score {score} is not a fraction; give mteb's main score, not percent")


def _coverage(values: list[float | None]) -> str:
    return f"{sum(value is not None for value in values)} of {len(values)}"


def _mean_cell(mean: float | None, values: list[float | None]) -> str:
    return _coverage(values) if mean is None else f"{mean:.2f}"


def _missing_note(model: str, table: CmtebTable) -> str:
    return f"{model} has no {', '.join(table.missing)}: no mean over the others."
