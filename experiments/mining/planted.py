"""A planted set: how many true answers does each way of mining hand over as hard negatives?

A tenth of the known positives of builtin docs is taken out of the judgements before mining: second positives
of their queries, so that every query keeps one. Whatever then takes one of them for a negative has taken a
right answer. Ours and `mine_hard_negatives` of sentence-transformers mine the same texts with the same
embeddings, and both are asked for four negatives a query.

    python -m data_prep minilm
    python -m experiments.mining.planted
"""

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim

from codiemb.tables import pipe_table
from data_prep.blocks import blocks, column, kept
from data_prep.layout import CANDIDATES, CORPUS, QRELS, QUERIES, document_text
from data_prep.mining.searchers import kept_embeddings, load_sides
from data_prep.options import build
from data_prep.runner import load_step, run_step
from data_prep.steps.filter import mark
from experiments.benchmarks.machine import page

DOCS = Path("data/builtin/train/docs_ir.jsonl")
MODEL = Path("data/minilm")
WORK = Path("data/planted")
CACHE = Path("data/embeddings")
PAGE = Path("experiments/mining/planted.md")
NUM_RECORDS = 4_500  # the first half: encoding all would take twice the time, ten minutes on two cores
SHARE = 0.1
NUM_NEGATIVES = 4
SEED = 1
PACKAGES = ("torch", "sentence-transformers", "bm25s")

Pair = tuple[str, str]  # ids of a query and a document

OURS: dict[str, dict[str, Any]] = {
    "top of 50": {"search": "dense"},
    "top of 50, percent=0.95": {"search": "dense", "percent": 0.95},
    "top of 50, percent=0.95, reference=highest": {
        "search": "dense",
        "percent": 0.95,
        "reference": "highest",
    },
    "ranks 10 to 50": {"search": "dense", "min_rank": 10},
    "ranks 10 to 50, percent=0.95": {"search": "dense", "min_rank": 10, "percent": 0.95},
    "spread over 50": {"search": "dense", "choice": "spread"},
    "random of 50": {"search": "dense", "choice": "random"},
    "BM25, top of 50": {"search": "bm25"},
    "BM25, percent=0.95": {"search": "bm25", "percent": 0.95},
    "both (rrf), top of 50": {"search": "rrf"},
    "both (rrf), percent=0.95": {"search": "rrf", "percent": 0.95},
}
PEERS: dict[str, dict[str, Any]] = {
    "top of all (its default)": {},
    "relative_margin=0.05": {"relative_margin": 0.05},
    "range 10 to 50": {"range_min": 10, "range_max": 50},
    "range 10 to 50, relative_margin=0.05": {"range_min": 10, "range_max": 50, "relative_margin": 0.05},
    "random of 50": {"range_max": 50, "sampling_strategy": "random"},
}


class Found(NamedTuple):
    """What a way of mining hands over."""

    label: str
    negatives: set[Pair]


@dataclass(frozen=True)
class Planted:
    """The source without the hidden positives, and those."""

    folder: Path
    hidden: set[Pair]


def main() -> None:
    """Mine in every way and write the page."""
    if not (DOCS.is_file() and MODEL.is_dir()):
        sys.exit("run first: make data; python -m data_prep minilm")
    planted = plant()
    found = [Found(f"ours: {label}", ours(planted.folder, label, values)) for label, values in OURS.items()]
    found += theirs(planted.folder)
    PAGE.write_text(report(planted, found), "utf-8")
    print(f"written: {PAGE}")


def plant() -> Planted:
    """Fetch docs and hide positives; the given negatives, which knew them, are left out."""
    fetched = WORK / "fetch"
    half = WORK / "docs_ir.jsonl"
    half.parent.mkdir(parents=True, exist_ok=True)
    with DOCS.open(encoding="utf-8") as lines:
        half.write_text("".join(islice(lines, NUM_RECORDS)), "utf-8")
    _step("fetch", (), fetched, importer="codiemb", **{"from": str(half)})
    folder = WORK / "source"
    hidden = _hidden(fetched)
    _step("filter", [fetched], folder)
    table = pq.read_table(folder / QRELS)
    reasons = [
        "hidden" if (row["query"], row["document"]) in hidden else None if row["grade"] > 0 else "given"
        for row in table.select(["query", "document", "grade"]).to_pylist()
    ]
    (folder / QRELS).unlink()  # a link to that of `fetched`
    pq.write_table(mark(table, "planted", reasons), folder / QRELS)
    return Planted(folder, hidden)


def _hidden(source: Path) -> set[Pair]:
    """A tenth of all positives, one of a query that has several."""
    positives: dict[str, list[str]] = {}
    for block in blocks(source / QRELS, ["query", "document", "grade"]):
        for row in block.filter(pc.greater(block["grade"], 0)).to_pylist():
            positives.setdefault(row["query"], []).append(row["document"])
    count = round(SHARE * sum(map(len, positives.values())))
    several = sorted(query for query, documents in positives.items() if len(documents) > 1)
    chosen = random.Random(SEED).sample(several, min(count, len(several)))
    return {(query, positives[query][-1]) for query in chosen}


def ours(source: Path, label: str, values: dict[str, Any]) -> set[Pair]:
    """The negatives of one setting."""
    out = WORK / "ours" / "".join(c if c.isalnum() else "_" for c in label)
    values = {"max_rank": 50, "num_negatives": NUM_NEGATIVES, "name": "mined", "encoder": str(MODEL)} | values
    _step("mine", [source], out, **values)
    return {
        (row["query"], row["document"])
        for block in blocks(out / CANDIDATES / "mined.parquet", ["query", "document", "dropped_by"])
        for row in kept(block).to_pylist()
    }


def theirs(source: Path) -> list[Found]:
    """sentence-transformers on the same pairs, corpus and embeddings; texts are turned back into ids."""
    queries = dict(zip(*_columns(source / QUERIES, "id", "text"), strict=True))
    titles = zip(*_columns(source / CORPUS, "id", "title", "text"), strict=True)
    documents = {key: document_text(title, text) for key, title, text in titles}
    pairs = [
        (row["query"], row["document"])
        for block in blocks(source / QRELS, ["query", "document", "dropped_by"])
        for row in kept(block).to_pylist()
    ]
    data = Dataset.from_dict(
        {"query": [queries[q] for q, _ in pairs], "document": [documents[d] for _, d in pairs]}
    )
    model = _ready(list(queries.values()), list(documents.values()))
    query_of = {text: key for key, text in queries.items()}
    document_of = {text: key for key, text in documents.items()}
    found = []
    for label, values in PEERS.items():
        mined = mine_hard_negatives(
            data,
            model,
            corpus=list(documents.values()),
            num_negatives=NUM_NEGATIVES,
            verbose=False,
            **values,
        )
        ids = {(query_of[row["query"]], document_of[row["negative"]]) for row in mined}
        found.append(Found(f"sentence-transformers: {label}", ids))
    return found


def _ready(queries: list[str], documents: list[str]) -> Any:  # noqa: ANN401  what their function asks of a model
    """A model that has the embeddings that ours searched ready: what differs is the choice."""
    sides = load_sides("codiemb", str(MODEL))
    vectors = []
    for name, texts, side in zip(("query", "document"), (queries, documents), sides, strict=True):
        rows = [("", text) for text in texts]
        made, _ = kept_embeddings(CACHE, name, rows, side)
        vectors.append(dict(zip(texts, made, strict=True)))

    def encode(known: dict[str, np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda texts, **_: np.stack([known[text] for text in texts])

    return SimpleNamespace(
        device=torch.device("cpu"),
        encode_query=encode(vectors[0]),
        encode_document=encode(vectors[1]),
        similarity=cos_sim,
        similarity_pairwise=pairwise_cos_sim,
    )


def _columns(path: Path, *names: str) -> Iterable[list[Any]]:
    return [column(path, name).to_pylist() for name in names]


def _step(step: str, sources: Sequence[Path], out: Path, **values: Any) -> None:  # noqa: ANN401
    run_step(step, sources, out, build(load_step(step).parameters, values, step))


def report(planted: Planted, found: Sequence[Found]) -> str:
    """The table, one row a way of mining."""
    num_queries = len(column(planted.folder / QUERIES, "id"))
    share: Callable[[int, int], str] = lambda part, whole: f"{100 * part / max(whole, 1):.2f}"  # noqa: E731
    rows = [
        (
            each.label,
            f"{len(each.negatives) / num_queries:.2f}",
            f"{len(each.negatives & planted.hidden):,}",
            share(len(each.negatives & planted.hidden), len(planted.hidden)),
            share(len(each.negatives & planted.hidden), len(each.negatives)),
        )
        for each in found
    ]
    header = (
        "mining",
        "negatives a query",
        "hidden answers among them",
        "% of the hidden",
        "% of the negatives",
    )
    about = f"""{len(planted.hidden):,} right answers of {num_queries:,} queries were hidden: a tenth of all
        positives, one each of queries that have two. The model is all-MiniLM-L6-v2. Fewer is better at equal
        numbers. A random document is a hidden answer with a chance of 1 in {_chance(planted):,}."""
    return page("A planted set", [about, pipe_table([header, *rows])], PACKAGES)


def _chance(planted: Planted) -> int:
    num_queries = len(column(planted.folder / QUERIES, "id"))
    num_documents = len(column(planted.folder / CORPUS, "id"))
    return round(num_queries * num_documents / len(planted.hidden))


if __name__ == "__main__":
    main()
