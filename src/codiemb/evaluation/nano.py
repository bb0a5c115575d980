"""The builtin tasks cut to a few hundred texts each: seconds on a CPU, for a look while a model trains.

What is kept follows from the texts alone (those with the smallest hashes), so that every run and machine has
the same. A retrieval task keeps every judged document of its queries; its corpus is smaller, and its scores
are higher than those of the whole task: hence names of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

from codiemb.evaluation.builtin import TASKS, builtin_folder, check_split
from codiemb.evaluation.folder_tasks.tasks import LocalTask
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.task_files.found import Found

PREFIX = "Nano"
QUERIES = {"Retrieval": 80, "Reranking": 25}  # a query to rerank brings ten documents
DOCUMENTS = {"Retrieval": 240, "Reranking": 0}  # at least; judged ones and candidates are kept in any case
ROWS = 150  # pairs, or texts to cluster
LABELS = 10  # of classification, with all their texts
_LIGHTER = {"Classification": {"n_experiments": 3}, "Clustering": {"max_documents_per_cluster": ROWS}}


def nano_tasks(data: Path, split: str) -> list[AbsTask]:
    """The small twins of the builtin tasks over DATA/eval/SPLIT/NAME; every folder must be there.

    Raises:
        UserError: a folder is not there, or no such split.
    """
    check_split(split)
    with preserve_random_state():  # building an mteb task seeds the global generators
        return [_twin(task)(builtin_folder(task.metadata, data, split)) for task in TASKS]


def full_name(name: str) -> str:
    """The builtin task whose twin this is."""
    return name.removeprefix(PREFIX)


class NanoTask(LocalTask):
    """Mixed in before a builtin task."""

    def __init__(self, found: Found) -> None:
        super().__init__(found)
        self.revision = f"{self.revision}-nano"

    def read(self) -> Any:  # noqa: ANN401  each mteb task type has its own layout
        """Part of what the whole task has."""
        kind = self.metadata.type
        whole = super().read()
        if kind in QUERIES:
            return {"default": {self.found.split: small_corpus(whole["default"][self.found.split], kind)}}
        if kind == "Classification":
            return small_classes(whole)
        return DatasetDict({name: _first(rows, ROWS) for name, rows in whole.items()})


def small_corpus(whole: RetrievalSplitData, kind: str) -> RetrievalSplitData:
    """Some judged queries, with their judged documents and candidates, and others up to a number."""
    judged, ranked = whole["relevant_docs"], whole["top_ranked"]
    texts = dict(zip(whole["queries"]["id"], whole["queries"]["text"], strict=True))
    queries = set(_smallest([key for key in texts if judged.get(key)], texts.__getitem__, QUERIES[kind]))
    kept = {document for query in queries for document in judged[query]}
    if ranked is not None:
        kept |= {document for query in queries for document in ranked[query]}
    corpus = dict(zip(whole["corpus"]["id"], whole["corpus"]["text"], strict=True))
    others = [key for key in corpus if key not in kept]
    kept |= set(_smallest(others, corpus.__getitem__, DOCUMENTS[kind] - len(kept)))
    return RetrievalSplitData(
        corpus=_with_ids(whole["corpus"], kept),
        queries=_with_ids(whole["queries"], queries),
        relevant_docs={key: grades for key, grades in judged.items() if key in queries},
        top_ranked=None if ranked is None else {key: ranked[key] for key in ranked if key in queries},
    )


def small_classes(whole: DatasetDict) -> DatasetDict:
    """Some labels, with all their texts on both sides."""
    names = sorted({str(label) for label in whole["train"]["label"]})
    chosen = set(_smallest(names, str, LABELS))
    return DatasetDict(
        {
            side: rows.select([i for i, label in enumerate(rows["label"]) if str(label) in chosen])
            for side, rows in whole.items()
        }
    )


def _first(rows: Dataset, count: int) -> Dataset:
    texts = ["\n".join(str(value) for value in row.values()) for row in rows]
    return rows.select(sorted(_smallest(range(len(rows)), texts.__getitem__, count)))


def _smallest(keys: Iterable[Any], text: Callable[[Any], str], count: int) -> Sequence[Any]:
    """The keys whose texts have the smallest hashes."""
    return sorted(keys, key=lambda key: xxhash.xxh3_64_digest(text(key).encode()))[: max(count, 0)]


def _with_ids(rows: Dataset, ids: set[str]) -> Dataset:
    return rows.select([i for i, key in enumerate(rows["id"]) if key in ids])


def _twin(task: type[LocalTask]) -> type[LocalTask]:
    about = task.metadata
    more = {"name": PREFIX + about.name, "description": f"{about.description} A small part of it."}
    body = {"__doc__": task.__doc__, "metadata": about.model_copy(update=more)}
    return type(PREFIX + task.__name__, (NanoTask, task), body | _LIGHTER.get(about.type, {}))
