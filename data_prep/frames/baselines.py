"""How hard the corpus is for word matching: `python -m data_prep.frames.baselines DIR/eval/test`.

Both baselines should be clearly above chance and clearly below perfect, so that the sets tell encoders apart.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

_TOKEN = re.compile(r"[\u4e00-\u9fff]|[a-z]+|[0-9]+(?:\.[0-9]+)?")


def tokens(text: str) -> list[str]:
    """Split into Chinese characters, English words and numbers."""
    return _TOKEN.findall(text.lower().replace(",", ""))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def bm25_ndcg(folder: Path, depth: int = 10) -> float:
    """Return the mean nDCG@depth of BM25 on a retrieval folder."""
    corpus, queries = read_jsonl(folder / "corpus.jsonl"), read_jsonl(folder / "queries.jsonl")
    relevant: dict[str, set[str]] = {}
    for row in read_jsonl(folder / "qrels.jsonl"):
        relevant.setdefault(row["query_id"], set()).add(row["corpus_id"])
    index = bm25s.BM25()
    index.index([tokens(row["text"]) for row in corpus], show_progress=False)
    found, _ = index.retrieve([tokens(row["text"]) for row in queries], k=depth, show_progress=False)
    gains = 1.0 / np.log2(np.arange(2, depth + 2))
    scores = []
    for query, documents in zip(queries, found, strict=True):
        wanted = relevant[query["id"]]
        hits = np.array([corpus[i]["id"] in wanted for i in documents])
        scores.append(float(hits @ gains) / float(gains[: len(wanted)].sum()))
    return float(np.mean(scores))


def overlap_spearman(path: Path) -> float:
    """Return the rank correlation of token overlap (Jaccard) with the gold score of an STS file."""
    rows = read_jsonl(path)
    overlap = []
    for row in rows:
        a, b = set(tokens(row["sentence1"])), set(tokens(row["sentence2"]))
        overlap.append(len(a & b) / len(a | b))
    return float(np.corrcoef(_ranks(overlap), _ranks([row["score"] for row in rows]))[0, 1])


def _ranks(values: list[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def main() -> None:
    """Print both baselines for one split's evaluation folder."""
    folder = Path(sys.argv[1])
    print(f"BM25 nDCG@10, FramesRetrieval: {bm25_ndcg(folder / 'FramesRetrieval'):.3f}")
    print(f"overlap Spearman, FramesSTS:   {overlap_spearman(folder / 'FramesSTS' / 'pairs.jsonl'):.3f}")


if __name__ == "__main__":
    main()
