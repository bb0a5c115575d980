"""Real text outside of all training data: titles of papers, and what mteb says of their datasets.

mteb (Apache-2.0) describes every dataset that it scores on in a sentence or two and cites its paper. Its
source is read, not imported. Training files hold docstrings and comments of mteb, and none of this metadata.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.json_files import read_jsonl
from data_prep.docs.clean import normalise
from data_prep.docs.parse import stable_hash
from data_prep.frames.train_sets import INSTRUCTION_IR
from data_prep.held_out import HeldOut
from data_prep.records import Record, write_jsonl
from data_prep.records import retrieval as record

RETRIEVAL, CLASSIFICATION = "PapersRetrieval", "PapersClassification"
MIN_WORDS = 8  # of a description
MIN_TITLE_WORDS = 4
PER_LABEL = 24  # texts of a kind on each side of the classification
_TITLE = re.compile(r"^\s*(?:title)\s*=\s*[{\"]+(.+?)[}\"]+,?\s*$", re.M | re.I)
_LATEX = re.compile(r"\\[a-zA-Z]+\s?|[{}\\$~]")


class Dataset(NamedTuple):
    """What mteb says of a dataset."""

    kind: str  # Retrieval, Classification, ...
    title: str  # of its paper
    description: str


def build_papers(out: Path, tasks: Path | None = None) -> dict[str, int]:
    """Write eval/dev/PapersRetrieval and eval/dev/PapersClassification; return the counts.

    A title's relevant documents are the descriptions of its paper's datasets. Descriptions are classified by
    the kind of task. The same version of mteb gives the same bytes.

    Raises:
        ValueError: a training file holds one of these texts. Nothing is written then.
    """
    datasets = _held_out(out, tasks)
    return _write(out / "eval" / "dev", retrieval(datasets) | classification(datasets))


def build_paper_folders(out: Path, tasks: Path | None = None) -> dict[str, int]:
    """The same tasks as task=folder reads them: a file of the dev side in each folder of `out`/eval.

    Raises:
        ValueError: a training file holds one of these texts. Nothing is written then.
    """
    datasets = _held_out(out, tasks)
    labelled = classification(datasets)
    return _write(
        out / "eval",
        {
            f"{RETRIEVAL}/dev": retrieval_records(datasets),
            f"{CLASSIFICATION}/train": labelled[f"{CLASSIFICATION}/train"],
            f"{CLASSIFICATION}/dev": labelled[f"{CLASSIFICATION}/test"],
        },
    )


def _held_out(out: Path, tasks: Path | None) -> list[Dataset]:
    """All data sets, none of whose texts a training file under `out` has."""
    folder = tasks or mteb_tasks()
    datasets = unique(dataset for file in sorted(folder.rglob("*.py")) for dataset in read(file))
    held_out = HeldOut(text for dataset in datasets for text in (dataset.title, dataset.description) if text)
    for path in sorted((out / "train").glob("*.jsonl")):
        held_out.check(path.name, read_jsonl(path))
    return datasets


def _write(folder: Path, files: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    for name, rows in files.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    return {name: len(rows) for name, rows in files.items()}


def mteb_tasks() -> Path:
    """Where mteb's tasks are defined; it is not imported, which takes seconds."""
    spec = find_spec("mteb")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("mteb is not installed")
    return Path(spec.origin).parent / "tasks"


def read(file: Path) -> Iterator[Dataset]:
    """The datasets that a file describes."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TaskMetadata":
            values = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            kind, description, citation = (
                str(values.get(key) or "") for key in ("type", "description", "bibtex_citation")
            )
            title = _TITLE.search(citation)
            yield Dataset(kind, _plain(title[1]) if title else "", _plain(description))


def unique(datasets: Iterable[Dataset]) -> list[Dataset]:
    """English descriptions that say something, each once; a dataset may have several tasks."""
    found: dict[str, Dataset] = {}
    for dataset in datasets:
        words = dataset.description.split()
        if len(words) >= MIN_WORDS and dataset.description.isascii():
            found.setdefault(normalise(dataset.description), dataset)
    return list(found.values())


def retrieval(datasets: Sequence[Dataset]) -> dict[str, list[dict[str, Any]]]:
    """Titles as queries; a description that repeats its title says nothing of an encoder, and is left out."""
    corpus: list[dict[str, Any]] = []
    queries: dict[str, dict[str, Any]] = {}  # by title
    qrels: list[dict[str, Any]] = []
    for number, dataset in enumerate(datasets):
        title = normalise(dataset.title)
        if len(title.split()) < MIN_TITLE_WORDS or title in normalise(dataset.description):
            continue
        corpus.append({"id": f"description-{number}", "text": dataset.description})
        query = queries.setdefault(title, {"id": f"title-{len(queries)}", "text": dataset.title})
        qrels.append({"query_id": query["id"], "corpus_id": f"description-{number}", "score": 1})
    rows = {"corpus": corpus, "queries": list(queries.values()), "qrels": qrels}
    return {f"{RETRIEVAL}/{name}": part for name, part in rows.items()}


def retrieval_records(datasets: Sequence[Dataset]) -> list[Record]:
    """A record for each title, whose positives are the descriptions of its paper's datasets."""
    tables = retrieval(datasets)
    corpus = {row["id"]: row["text"] for row in tables[f"{RETRIEVAL}/corpus"]}
    found: dict[str, list[str]] = {}
    for row in tables[f"{RETRIEVAL}/qrels"]:
        found.setdefault(row["query_id"], []).append(corpus[row["corpus_id"]])
    return [record(INSTRUCTION_IR, row["text"], found[row["id"]]) for row in tables[f"{RETRIEVAL}/queries"]]


def classification(datasets: Sequence[Dataset]) -> dict[str, list[dict[str, Any]]]:
    """Descriptions of the kinds that have enough of them, as many of each, on two sides."""
    order = sorted(datasets, key=lambda d: stable_hash("papers", d.description))
    counts = Counter(dataset.kind for dataset in order if dataset.kind)
    kinds = sorted(kind for kind, count in counts.items() if count >= 2 * PER_LABEL)
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for kind in kinds:
        rows = [{"text": d.description, "label": kind} for d in order if d.kind == kind]
        sides["train"] += rows[:PER_LABEL]
        sides["test"] += rows[PER_LABEL : 2 * PER_LABEL]
    return {f"{CLASSIFICATION}/{name}": rows for name, rows in sides.items()}


def _plain(text: str) -> str:
    """Without LaTeX, in single spaces."""
    return " ".join(_LATEX.sub("", text).split())
