"""Listens to mteb while it scores a task: it computes a score for every query and keeps only the mean.

Retrieval hands them to `task_specific_scores`, a hook of its tasks; the other types write what they predict
into `prediction_folder`. (For retrieval that would be a thousand documents a query.)
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)

from codiemb.evaluation.per_query import ACCURACY, MEAN, PRECISION, SPEARMAN, Group, PerQuery
from codiemb.json_files import read_json

# mteb's metrics by the names of pytrec_eval, which computes them
PYTREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
# what mteb's pair classification predicts, by the start of its metrics; distances are turned round
SIMILARITIES = {
    "similarity": ("similarity_scores", 1),
    "cosine": ("cosine_scores", 1),
    "manhattan": ("manhattan_distances", -1),
    "euclidean": ("euclidean_distances", -1),
    "dot": ("dot_scores", 1),
}


Scores = dict[str, dict[str, float]]  # by query
Qrels = Mapping[str, Mapping[str, int]]


class Watched:
    """What mteb told of a task while it scored it."""

    def __init__(self) -> None:
        self.folder: Path | None = None  # mteb's prediction_folder
        self.queries: dict[tuple[str, str], Scores] = {}  # by split and subset
        self.predictions: dict[str, dict[str, Any]] = {}  # by subset and split


@contextmanager
def watch(task: AbsTask, *, wanted: bool) -> Iterator[Watched]:
    """Listen while mteb evaluates `task`; `.folder` is what to give it as `prediction_folder`."""
    watched = Watched()
    if wanted and isinstance(task, AbsTaskRetrieval):
        with _listening(task, watched):
            yield watched
    elif wanted and isinstance(task, AbsTaskSTS | AbsTaskPairClassification | AbsTaskClassification):
        with tempfile.TemporaryDirectory() as folder:
            watched.folder = Path(folder)
            yield watched
            watched.predictions = read_json(watched.folder / task.prediction_file_name, {})
    else:
        yield watched


@contextmanager
def _listening(task: AbsTaskRetrieval, watched: Watched) -> Iterator[None]:
    """mteb calls the hook with the scores of every query."""
    own = task.task_specific_scores

    def listen(
        scores: Scores, qrels: Qrels, results: Scores, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        watched.queries[hf_split, hf_subset] = scores
        return own(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset)

    task.task_specific_scores = listen  # type: ignore[method-assign]
    try:
        yield
    finally:
        del task.task_specific_scores


def keep_per_query(task: AbsTask, watched: Watched, score: float, revision: str, folder: Path) -> None:
    """Write FOLDER/TASK.json, or take away that of an earlier run where there is nothing to write."""
    parts = per_query(task, watched, score, revision)
    if parts is None:
        (folder / f"{task.metadata.name}.json").unlink(missing_ok=True)
    else:
        parts.save(folder)


def per_query(task: AbsTask, watched: Watched, score: float, revision: str) -> PerQuery | None:
    """The parts of a task's main score; None where it has none that can be paired, as of clusters."""
    metric = task.metadata.main_score
    if isinstance(task, AbsTaskRetrieval):
        statistic, unit, groups = MEAN, "query", _of_queries(watched, metric)
    elif isinstance(task, AbsTaskClassification):
        statistic, unit, groups = MEAN, "text", _of_texts(task, watched, metric)
    elif isinstance(task, AbsTaskSTS):
        statistic, unit, groups = SPEARMAN, "pair", _of_graded_pairs(task, watched, metric)
    elif isinstance(task, AbsTaskPairClassification):
        statistic, groups = _of_labelled_pairs(task, watched, metric)
        unit = "pair"
    else:
        return None
    return PerQuery(task.metadata.name, metric, statistic, unit, score, revision, groups) if groups else None


def _of_queries(watched: Watched, metric: str) -> list[Group]:
    name, _, cut = metric.rpartition("_at_")
    key = f"{PYTREC.get(name)}_{cut}"
    return [
        Group(split, subset, list(scores), [], {"score": [parts[key] for parts in scores.values()]})
        for (split, subset), scores in watched.queries.items()
        if scores and key in next(iter(scores.values()))
    ]


def _of_texts(task: AbsTaskClassification, watched: Watched, metric: str) -> list[Group]:
    """The share of a text's classifiers, each trained on another draw of texts, that were right."""
    if metric != "accuracy" or task.is_cross_validation:
        return []
    groups = []
    for split, subset, runs in _predicted(watched):
        gold = list(_rows(task, split, subset)[task.label_column_name])
        right = [
            sum(label == guess for guess in guesses) for label, *guesses in zip(gold, *runs, strict=True)
        ]
        groups.append(Group(split, subset, [], gold, {"score": [count / len(runs) for count in right]}))
    return groups


def _of_graded_pairs(task: AbsTaskSTS, watched: Watched, metric: str) -> list[Group]:
    if metric != "cosine_spearman":
        return []
    return [
        Group(split, subset, [], list(_rows(task, split, subset)["score"]), {"score": parts["cosine_scores"]})
        for split, subset, parts in _predicted(watched)
    ]


def _of_labelled_pairs(
    task: AbsTaskPairClassification, watched: Watched, metric: str
) -> tuple[str, list[Group]]:
    which, _, name = metric.partition("_")
    statistic = {"ap": PRECISION, "accuracy": ACCURACY}.get(name)
    chosen = SIMILARITIES if which == "max" else {k: v for k, v in SIMILARITIES.items() if k == which}
    if statistic is None or not chosen:
        return "", []
    return statistic, [
        Group(split, subset, [], _labels(task, split, subset), _turned(parts, chosen))
        for split, subset, parts in _predicted(watched)
    ]


def _turned(
    parts: Mapping[str, Sequence[float]], chosen: Mapping[str, tuple[str, int]]
) -> dict[str, list[float]]:
    return {name: [sign * value for value in parts[key]] for name, (key, sign) in chosen.items()}


def _labels(task: AbsTaskPairClassification, split: str, subset: str) -> list[int]:
    rows = _rows(task, split, subset)
    labels = rows[task.label_column_name]
    return list(labels[0] if len(rows) == 1 else labels)  # datasets of mteb 1 hold all pairs in one row


def _predicted(watched: Watched) -> Iterator[tuple[str, str, Any]]:
    for subset, splits in watched.predictions.items():
        if subset != "mteb_model_meta":
            for split, parts in splits.items():
                yield split, subset, parts


def _rows(task: AbsTask, split: str, subset: str) -> Any:  # noqa: ANN401  of datasets
    """The data of a split, as `AbsTask.evaluate` finds it."""
    data: Any = task.dataset
    return data[subset][split] if subset in data else data[split]
