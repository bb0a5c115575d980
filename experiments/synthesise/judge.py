"""How good are the queries that a model wrote: do they find their passage, as the source's own queries do?

    python -m experiments.synthesise.judge data/road/docs/synthesise

For the queries of each origin: how many are distinct, how many of their words stand in their passage, and how
often BM25 finds that among all passages in the first 10. Queries of a recipe are told apart by whether the
model was trained on the passage (experiments/synthesise/writer.py).
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from codiemb.lexical.words import bm25_tokens
from codiemb.tables import pipe_table
from data_prep.layout import CORPUS, QRELS, QUERIES, document_text
from data_prep.search.bm25 import Bm25Index
from experiments.synthesise.writer import is_for_training

_HEADER = [
    "queries",
    "count",
    "distinct",
    "words that are in the passage",
    "passage among the first 10",
    "at random",
]
_TOP = 10


class Pair(NamedTuple):
    """A query and the row of a passage that is right for it."""

    query: str
    passage: int


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a folder that synthesise wrote")
    parser.add_argument(
        "--own", type=int, default=1000, help="so many of the source's own queries are judged"
    )
    given = parser.parse_args()
    passages = {row["id"]: document_text(row["title"], row["text"]) for row in _rows(given.source / CORPUS)}
    index = Bm25Index(passages.values())
    table = [_HEADER]
    for name, pairs in sorted(_pairs(given.source, passages, given.own).items()):
        table.append([name, *_judged(pairs, list(passages.values()), index)])
    print(pipe_table(table))


def _pairs(source: Path, passages: dict[str, str], own: int) -> dict[str, list[Pair]]:
    """By origin; of the source's own queries the first."""
    texts = {row["id"]: row["text"] for row in _rows(source / QUERIES)}
    row_of = {name: row for row, name in enumerate(passages)}
    found = defaultdict(list)
    for row in _rows(source / QRELS):
        if row["grade"] > 0:
            pair = Pair(texts[row["query"]], row_of[row["document"]])
            if not row["origin"].startswith("synthesise"):
                found["the source's own"].append(pair)
            else:
                seen = "" if is_for_training(passages[row["document"]]) else ", passage not trained on"
                found[f"{row['origin']}{seen}"].append(pair)
    found["the source's own"] = found["the source's own"][:own]
    return found


def _judged(pairs: list[Pair], passages: list[str], index: Bm25Index) -> list[str]:
    in_passage, is_found = [], []
    for query, row in pairs:
        words, there = bm25_tokens(query), set(bm25_tokens(passages[row]))
        in_passage.append(mean(word in there for word in words) if words else 0.0)
        is_found.append(row in index.top_k([query], _TOP).document_C)
    distinct = len({query for query, _ in pairs}) / len(pairs)
    chance = min(_TOP / len(passages), 1.0)
    return [f"{len(pairs):,}", *(f"{100 * float(np.mean(value)):.1f} %" for value in
                                 (distinct, in_passage, is_found, chance))]  # fmt: skip


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


if __name__ == "__main__":
    main()
