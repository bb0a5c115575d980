"""The CMTEB table: 31 tasks, six category means, two overall means, beside the published results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import mteb
from mteb.abstasks import AbsTask

from codiemb.evaluation.isolation import preserve_random_state
from codiemb.evaluation.published import PUBLISHED, Published
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

    @property
    def coverage(self) -> str:
        """How many tasks have a score, as "31 of 31"."""
        return _coverage(list(self.tasks.values()))

    def sheet(self, model: str = "this model") -> Sheet:
        """Published rows, then this model's. An incomplete mean says how many of its tasks there are."""
        names = {kind: [name for name, of in cmteb_types().items() if of == kind] for kind in CATEGORIES}
        cells = [_mean_cell(self.mean_task, list(self.tasks.values()))]
        cells += ["–" if self.mean_type is None else f"{self.mean_type:.2f}"]
        cells += [
            _mean_cell(self.categories[kind], [self.tasks[name] for name in names[kind]])
            for kind in CATEGORIES
        ]
        published = [
            (row.model + "†" * bool(row.note), *(f"{value:.2f}" for value in row[1:9]))
            for row in self.published
        ]
        return Sheet(
            title=f"CMTEB, {self.coverage} tasks",
            header=("Model", "Mean(Task)", "Mean(Type)", *CATEGORIES.values()),
            rows=(*published, (model, *cells)),
            notes=tuple(f"† {row.note}" for row in self.published if row.note),
        )


def cmteb_table(scores: Mapping[str, float]) -> CmtebTable:
    """Means over mteb's main scores (fractions, by task name); no mean is given over part of its tasks."""
    types = cmteb_types()
    _check_scores(scores, types)
    tasks = {name: 100 * scores[name] if name in scores else None for name in types}
    categories = {
        kind: complete_mean([tasks[name] for name in types if types[name] == kind]) for kind in CATEGORIES
    }
    mean, type_mean = complete_mean(list(tasks.values())), complete_mean(list(categories.values()))
    return CmtebTable(tasks, categories, mean, type_mean)


def cmteb_tasks() -> list[AbsTask]:
    """The 31 mteb tasks of the benchmark, with the splits that it scores."""
    with preserve_random_state():  # building an mteb task seeds the global generators
        return list(mteb.get_benchmark(BENCHMARK).tasks)


@cache
def cmteb_types() -> Mapping[str, str]:
    """{task name: task type} of the 31 tasks, in the benchmark's order."""
    return {task.metadata.name: task.metadata.type for task in cmteb_tasks()}


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
