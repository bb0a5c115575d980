"""Seven mteb tasks over local files, so that the whole of mteb's scoring runs without the hub."""

from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
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

from codiemb.errors import UserError
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.evaluation.known_tasks import make_known
from codiemb.evaluation.local_data import (
    NUMBER,
    Fields,
    folder_hash,
    read_qrels,
    read_rows,
    read_texts,
    read_top_ranked,
)

LABELLED: Fields = {"text": str, "label": (str, int)}
SPLITS = ("dev", "test")
SEED = 42  # of mteb's own sampling: classification's training subsets, clustering's bootstraps


def builtin_tasks(data: Path, split: str) -> list[AbsTask]:
    """The built-in tasks over DATA/eval/SPLIT/NAME; every folder must be there."""
    check_split(split)
    with preserve_random_state():  # building an mteb task seeds the global generators
        return [task_class(data, split) for task_class in TASKS]


def check_split(split: str) -> None:
    """Refuse what is no side of the data.

    Raises:
        UserError: it is none.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; the built-in tasks have {' and '.join(SPLITS)}")


def _metadata(name: str, kind: str, score: str, about: str, prompt: str, **more: Any) -> TaskMetadata:  # noqa: ANN401
    """Complete mteb metadata; what is common to all seven tasks is said once."""
    common: dict[str, Any] = {
        "dataset": {"path": f"codiemb/{name}", "revision": "local"},  # the real revision: LocalTask.revision
        "reference": None,
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": list(SPLITS),
        "eval_langs": ["cmn-Hans", "eng-Latn"],
        "date": ("2026-01-01", "2026-12-31"),
        "domains": ["Constructed", "Written"],
        "task_subtypes": [],
        "license": "apache-2.0",
        "annotations_creators": "derived",
        "dialect": [],
        "sample_creation": "created",
        "bibtex_citation": "",
    }
    fields = {"name": name, "type": kind, "main_score": score, "description": about, "prompt": prompt}
    return TaskMetadata(**(common | fields | more))


class LocalTask(AbsTask):
    """A task whose data is a folder; mixed in before mteb's task class."""

    def __init__(self, data: Path, split: str) -> None:
        super().__init__(seed=SEED)
        self.split = split
        self.folder = data / "eval" / split / self.folder_name
        if not self.folder.is_dir():
            raise UserError(
                f"no evaluation data for {self.metadata.name} in {self.folder}: "
                "run the data preparation first (make data)"
            )
        self._eval_splits = [split]
        self.revision = folder_hash(self.folder)
        make_known(self)

    @property
    def folder_name(self) -> str:
        """Where its files are."""
        return self.metadata.name

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401  mteb's signature
        """Read the folder; mteb calls this once per evaluation."""
        if not self.data_loaded:
            self.dataset = self.read()
            self.data_loaded = True

    def read(self) -> Any:  # noqa: ANN401  each mteb task type has its own layout
        """The data in the layout that mteb's task class expects."""
        raise NotImplementedError


class LocalRetrieval(LocalTask, AbsTaskRetrieval):
    """corpus.jsonl, queries.jsonl, qrels.jsonl, and for reranking top_ranked.jsonl."""

    def read(self) -> dict[str, dict[str, RetrievalSplitData]]:
        """Texts and judgements; every id of the judgements must exist."""
        corpus, queries = read_texts(self.folder / "corpus.jsonl"), read_texts(self.folder / "queries.jsonl")
        is_reranking = self.metadata.type == "Reranking"
        split = RetrievalSplitData(
            corpus=_texts(corpus),
            queries=_texts(queries),
            relevant_docs=read_qrels(self.folder / "qrels.jsonl", queries, corpus),
            top_ranked=read_top_ranked(self.folder / "top_ranked.jsonl", queries, corpus)
            if is_reranking
            else None,
        )
        return {"default": {self.split: split}}


class DocsRetrieval(LocalRetrieval):
    """Find the documentation that a one-line summary was taken from."""

    metadata = _metadata(
        "DocsRetrieval", "Retrieval", "ndcg_at_10", "Summaries of functions against their documentation.",
        "Given the summary of a function or class, retrieve its documentation",
        eval_langs=["eng-Latn"], domains=["Programming", "Written"],
        sample_creation="found", license="not specified",
    )  # fmt: skip


class FramesRetrieval(LocalRetrieval):
    """Find the texts with the query's meaning, in either language."""

    metadata = _metadata(
        "FramesRetrieval", "Retrieval", "ndcg_at_10", "Chinese and English, relevant if equal in meaning.",
        "Given a question, retrieve passages that answer it or say the same",
    )  # fmt: skip


class FramesReranking(LocalRetrieval):
    """Rank ten candidates, most of which differ from the query in one thing."""

    metadata = _metadata(
        "FramesReranking", "Reranking", "map_at_1000", "Ten candidates a query; most differ in one thing.",
        "Given a question, retrieve passages that answer it or say the same",
    )  # fmt: skip


class FramesSTS(LocalTask, AbsTaskSTS):
    """Graded similarity, known by construction."""

    min_score, max_score = 0, 1
    metadata = _metadata(
        "FramesSTS", "STS", "cosine_spearman", "Pairs of texts with a similarity known by construction.",
        "Represent the sentence for semantic similarity",
    )  # fmt: skip

    def read(self) -> DatasetDict:
        """Pairs with a score in [0, 1]."""
        path = self.folder / "pairs.jsonl"
        rows: list[dict[str, Any]] = read_rows(path, {"sentence1": str, "sentence2": str, "score": NUMBER})
        _each(path, rows, "score", lambda score: 0 <= score <= 1, "a similarity in [0, 1]")
        return DatasetDict(
            {self.split: Dataset.from_list([row | {"score": float(row["score"])} for row in rows])}
        )


class FramesPairClassification(LocalTask, AbsTaskPairClassification):
    """Same meaning, or one thing different."""

    label_column_name = "label"
    metadata = _metadata(
        "FramesPairClassification", "PairClassification", "max_ap", "Same meaning, or one thing different.",
        "Represent the sentence for semantic similarity",
    )  # fmt: skip

    def read(self) -> DatasetDict:
        """Pairs with label 0 or 1."""
        path = self.folder / "pairs.jsonl"
        rows = read_rows(path, {"sentence1": str, "sentence2": str, "label": int})
        _each(path, rows, "label", lambda label: label in (0, 1), "0 or 1")
        return DatasetDict({self.split: Dataset.from_list(rows)})


class FramesClassification(LocalTask, AbsTaskClassification):
    """The intent of a text, from eight labelled examples per intent."""

    metadata = _metadata(
        "FramesClassification", "Classification", "accuracy", "The intent of a generated text.",
        "Classify the intent of the given text", category="t2c",
    )  # fmt: skip

    def read(self) -> DatasetDict:
        """train.jsonl feeds mteb's classifier, test.jsonl is scored, in both splits."""
        parts = {name: read_rows(self.folder / f"{name}.jsonl", LABELLED) for name in ("train", "test")}
        return DatasetDict(
            {"train": Dataset.from_list(parts["train"]), self.split: Dataset.from_list(parts["test"])}
        )


class FramesClustering(LocalTask, AbsTaskClustering):
    """The domain of a text, without labels."""

    max_fraction_of_documents_to_embed = None  # all of them
    max_documents_per_cluster = 2048  # per bootstrap, drawn with replacement
    input_column_name, label_column_name = "text", "label"
    metadata = _metadata(
        "FramesClustering", "Clustering", "v_measure", "The domain of a generated text.",
        "Identify the domain of the given text", category="t2c",
    )  # fmt: skip

    def read(self) -> DatasetDict:
        """One text and its label a row."""
        return DatasetDict({self.split: Dataset.from_list(read_rows(self.folder / "texts.jsonl", LABELLED))})


TASKS: tuple[type[LocalTask], ...] = (
    DocsRetrieval, FramesRetrieval, FramesReranking, FramesSTS,
    FramesPairClassification, FramesClassification, FramesClustering,
)  # fmt: skip


def _texts(texts: dict[str, str]) -> Dataset:
    return Dataset.from_dict({"id": list(texts), "text": list(texts.values())})


def _each(path: Path, rows: list[dict[str, Any]], field: str, holds: Any, expected: str) -> None:  # noqa: ANN401
    for number, row in enumerate(rows, 1):
        if not holds(row[field]):
            raise UserError(f"{path}: row {number}: {field} is {row[field]!r}, expected {expected}")
