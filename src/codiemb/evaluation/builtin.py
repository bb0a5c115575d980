"""mteb tasks over local files, so that all of mteb's scoring runs without the hub: seven, and two on dev."""

from pathlib import Path
from typing import Any

from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata

from codiemb.errors import UserError
from codiemb.evaluation.folder_tasks.tasks import (
    TYPES,
    LocalClassification,
    LocalClustering,
    LocalPairClassification,
    LocalRetrieval,
    LocalSTS,
    LocalTask,
    metadata,
)
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.task_files.found import ROLES, Found, Kind
from codiemb.task_names import SPLITS

_KINDS: dict[str, Kind] = {of_mteb: kind for kind, of_mteb in TYPES.items()}
_AGAIN = "run the data preparation again (make data)"


def builtin_tasks(data: Path, split: str) -> list[AbsTask]:
    """The built-in tasks over DATA/eval/SPLIT/NAME; every folder must be there, but those of `OUTSIDE`."""
    check_split(split)
    outside = [task for task in OUTSIDE if (data / "eval" / split / task.metadata.name).is_dir()]
    with preserve_random_state():  # building an mteb task seeds the global generators
        return [
            task_class(builtin_folder(task_class.metadata, data, split)) for task_class in (*TASKS, *outside)
        ]


def check_split(split: str) -> None:
    """Refuse what is no side of the data.

    Raises:
        UserError: it is none.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; the built-in tasks have {' and '.join(SPLITS)}")


def builtin_folder(about: TaskMetadata, data: Path, split: str) -> Found:
    """The files of a builtin task.

    Raises:
        UserError: one is not there, or empty.
    """
    folder = data / "eval" / split / about.name
    if not folder.is_dir():
        raise UserError(
            f"no evaluation data for {about.name} in {folder}: run the data preparation first (make data)"
        )
    kind = _KINDS[about.type]
    files = {role: (folder / f"{role}.jsonl",) for role in ROLES[kind]}
    for (path,) in files.values():
        if not path.is_file() or not path.stat().st_size:
            raise UserError(f"{path} is missing or empty: {_AGAIN}")
    return Found(about.name, kind, folder, files, split, score_range=(0.0, 1.0) if kind == "sts" else None)


def _metadata(name: str, kind: Kind, about: str, prompt: str, **more: Any) -> TaskMetadata:  # noqa: ANN401
    """What is common to all tasks is said once."""
    common: dict[str, Any] = {
        "prompt": prompt,
        "eval_splits": list(SPLITS),
        "domains": ["Constructed", "Written"],
        "license": "apache-2.0",
        "sample_creation": "created",
    }
    return metadata(name, kind, about, **(common | more))


class DocsRetrieval(LocalRetrieval):
    """Find the documentation that a one-line summary was taken from."""

    metadata = _metadata(
        "DocsRetrieval", "retrieval", "Summaries of functions against their documentation.",
        "Given the summary of a function or class, retrieve its documentation",
        eval_langs=["eng-Latn"], domains=["Programming", "Written"],
        sample_creation="found", license="not specified",
    )  # fmt: skip


class FramesRetrieval(LocalRetrieval):
    """Find the texts with the query's meaning, in either language."""

    metadata = _metadata(
        "FramesRetrieval", "retrieval", "Chinese and English, relevant if equal in meaning.",
        "Given a question, retrieve passages that answer it or say the same",
    )  # fmt: skip


class FramesReranking(LocalRetrieval):
    """Rank ten candidates, most of which differ from the query in one thing."""

    metadata = _metadata(
        "FramesReranking", "reranking", "Ten candidates a query; most differ in one thing.",
        "Given a question, retrieve passages that answer it or say the same",
    )  # fmt: skip


class FramesSTS(LocalSTS):
    """Graded similarity, known by construction."""

    metadata = _metadata(
        "FramesSTS", "sts", "Pairs of texts with a similarity known by construction.",
        "Represent the sentence for semantic similarity",
    )  # fmt: skip


class FramesPairClassification(LocalPairClassification):
    """Same meaning, or one thing different."""

    metadata = _metadata(
        "FramesPairClassification", "pair_classification", "Same meaning, or one thing different.",
        "Represent the sentence for semantic similarity",
    )  # fmt: skip


class FramesClassification(LocalClassification):
    """The intent of a text, from eight labelled examples per intent."""

    metadata = _metadata(
        "FramesClassification", "classification", "The intent of a generated text.",
        "Classify the intent of the given text",
    )  # fmt: skip


class FramesClustering(LocalClustering):
    """The domain of a text, without labels."""

    metadata = _metadata(
        "FramesClustering", "clustering", "The domain of a generated text.",
        "Identify the domain of the given text",
    )  # fmt: skip


_FOUND: dict[str, Any] = {
    "eval_splits": ["dev"],
    "eval_langs": ["eng-Latn"],
    "domains": ["Academic", "Written"],
    "sample_creation": "found",
}


class PapersRetrieval(LocalRetrieval):
    """Find what is said of a paper's datasets by its title: no training file holds such text."""

    metadata = _metadata(
        "PapersRetrieval", "retrieval", "Titles of papers against what their datasets are.",
        "Given the title of a paper, retrieve descriptions of its datasets",
        **_FOUND,
    )  # fmt: skip


class PapersClassification(LocalClassification):
    """The kind of task that a dataset is for, from a few labelled descriptions of each kind."""

    metadata = _metadata(
        "PapersClassification", "classification", "What kind of task a described dataset is for.",
        "Classify the kind of task that the described dataset is for",
        **_FOUND,
    )  # fmt: skip


TASKS: tuple[type[LocalTask], ...] = (
    DocsRetrieval, FramesRetrieval, FramesReranking, FramesSTS,
    FramesPairClassification, FramesClassification, FramesClustering,
)  # fmt: skip
# On the dev side alone: text as no training file has it, which tells what a training forgets.
OUTSIDE: tuple[type[LocalTask], ...] = (PapersRetrieval, PapersClassification)
