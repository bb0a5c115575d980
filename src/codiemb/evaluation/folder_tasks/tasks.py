"""mteb's task types over files of this disk: this package reads and checks the data, mteb scores."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.table import InMemoryTable
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from codiemb.evaluation.known_tasks import make_known
from codiemb.task_files.found import RECORDS, Found, Kind
from codiemb.task_files.judged import read_retrieval, unanswerable
from codiemb.task_files.labelled import read_classification, read_labelled, unlearned
from codiemb.task_files.metrics import MAIN
from codiemb.task_files.pairs import read_labelled_pairs, read_scored
from codiemb.task_files.records import RecordInstructions, read_ir, read_sts

SEED = 42  # of mteb's own sampling: classification's training subsets, clustering's bootstraps
TYPES: Mapping[Kind, str] = {
    "retrieval": "Retrieval",
    "reranking": "Reranking",
    "sts": "STS",
    "pair_classification": "PairClassification",
    "classification": "Classification",
    "clustering": "Clustering",
}
_CHUNK = 1 << 20


class LocalTask(AbsTask):
    """A task whose data is files; mixed in before mteb's task class.

    Attributes:
        found: which files, and what they hold.
        revision: a hash of the files.
        record_instructions: those that training records carry; None where the data are none.
        remark: what of the data moves every score, once it is read; "" for nothing.
    """

    remark = ""

    def __init__(self, found: Found) -> None:
        super().__init__(seed=SEED)
        self.found = found
        self._eval_splits = [found.split]
        self.revision = files_hash(found)
        self.record_instructions = RecordInstructions(found) if RECORDS in found.files else None
        make_known(self)

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401  mteb's signature
        """Read the files; mteb calls this once per evaluation."""
        if not self.data_loaded:
            self.dataset = self.read()
            self.data_loaded = True

    def read(self) -> Any:  # noqa: ANN401  each mteb task type has its own layout
        """The data in the layout that mteb's task class expects.

        Raises:
            UserError: what is wrong with it, with file and row.
        """
        raise NotImplementedError


class LocalRetrieval(LocalTask, AbsTaskRetrieval):
    """Retrieval, and reranking of candidates."""

    def read(self) -> dict[str, dict[str, RetrievalSplitData]]:
        """Texts and judgements."""
        if self.record_instructions is None:
            data = read_retrieval(self.found)
        else:
            data = read_ir(self.found, self.record_instructions)
        self.remark = unanswerable(data.qrels)
        split = RetrievalSplitData(
            corpus=_dataset(data.corpus),
            queries=_dataset(data.queries),
            relevant_docs=data.qrels,
            top_ranked=data.candidates,
        )
        return {"default": {self.found.split: split}}


class LocalSTS(LocalTask, AbsTaskSTS):
    """Graded similarity; the range of the scores moves no correlation by more than rounding."""

    min_score, max_score = 0, 1

    def read(self) -> DatasetDict:
        """Pairs with a score."""
        if self.record_instructions is None:
            return DatasetDict({self.found.split: _dataset(read_scored(self.found))})
        return DatasetDict({self.found.split: _dataset(read_sts(self.found, self.record_instructions))})


class LocalPairClassification(LocalTask, AbsTaskPairClassification):
    """The same, or different."""

    label_column_name = "label"

    def read(self) -> DatasetDict:
        """Pairs with label 0 or 1."""
        return DatasetDict({self.found.split: _dataset(read_labelled_pairs(self.found))})


class LocalClassification(LocalTask, AbsTaskClassification):
    """The label of a text, from a few labelled ones of each class."""

    def read(self) -> DatasetDict:
        """`train` feeds mteb's classifier, the other split is scored."""
        train, test = read_classification(self.found)
        self.remark = unlearned(train, test)
        return DatasetDict({"train": _dataset(train), self.found.split: _dataset(test)})


class LocalClustering(LocalTask, AbsTaskClustering):
    """The label of a text, without seeing labels."""

    max_fraction_of_documents_to_embed = None  # all of them
    max_documents_per_cluster = 2048  # per bootstrap, drawn with replacement
    input_column_name, label_column_name = "text", "label"

    def read(self) -> DatasetDict:
        """One text and its label a row."""
        return DatasetDict({self.found.split: _dataset(read_labelled(self.found, "texts"))})


_CLASSES: Mapping[Kind, type[LocalTask]] = {
    "retrieval": LocalRetrieval,
    "reranking": LocalRetrieval,
    "sts": LocalSTS,
    "pair_classification": LocalPairClassification,
    "classification": LocalClassification,
    "clustering": LocalClustering,
}


def task_of(found: Found) -> LocalTask:
    """The mteb task of a folder, in a class of its own as all of mteb's tasks are."""
    about = metadata(
        found.name, found.kind, f"Local files of {found.folder}.", eval_splits=[found.split],
        main_score=found.metric or MAIN[found.kind], license="not specified", sample_creation="found",
    )  # fmt: skip
    attributes: dict[str, object] = {"metadata": about}
    if found.kind == "sts" and found.score_range and RECORDS not in found.files:  # records' are scaled
        attributes |= dict(zip(("min_score", "max_score"), found.score_range, strict=True))
    return type(found.name, (_CLASSES[found.kind],), attributes)(found)


def metadata(name: str, kind: Kind, about: str, **more: Any) -> TaskMetadata:  # noqa: ANN401  mteb's fields
    """Complete mteb metadata; `more` goes before what is common to all local tasks."""
    common: dict[str, Any] = {
        "name": name,
        "type": TYPES[kind],
        "main_score": MAIN[kind],
        "description": about,
        "dataset": {"path": f"codiemb/{name}", "revision": "local"},  # the real revision: LocalTask.revision
        "reference": None,
        "category": "t2c" if kind in ("classification", "clustering") else "t2t",
        "modalities": ["text"],
        "eval_langs": ["cmn-Hans", "eng-Latn"],
        "date": ("2026-01-01", "2026-12-31"),
        "domains": ["Written"],
        "task_subtypes": [],
        "annotations_creators": "derived",
        "dialect": [],
        "bibtex_citation": "",
    }
    return TaskMetadata(**(common | more))


def files_hash(found: Found) -> str:
    """A short hash of every file's name and bytes, and of its task.yaml: the revision of a local data set."""
    digest = hashlib.sha256()
    described = found.folder / "task.yaml"
    for path in [*found.all_files, *([described] if described.is_file() else [])]:
        digest.update(_name_in(found.folder, path).encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def _dataset(table: pa.Table) -> Dataset:
    """Without a copy."""
    return Dataset(InMemoryTable(table))


def _name_in(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
