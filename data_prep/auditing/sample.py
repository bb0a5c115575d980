"""Some queries with their positives and chosen negatives, as a reader sees them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codiemb.mining.choose import pair_key
from data_prep.auditing.chosen import Candidates
from data_prep.auditing.judges import Verdicts
from data_prep.blocks import blocks
from data_prep.layout import CORPUS, QUERIES, document_text
from data_prep.pages.page import Section, Table
from data_prep.relations import Ids

_CHARACTERS = 400  # of a document
_COLOURS = {"positive": "positive", "negative": "hard_negative"}


class Sample(NamedTuple):
    """How many queries, how many negatives of each, and the seed that draws the queries."""

    num_queries: int
    num_negatives: int
    seed: int


class _Shown(NamedTuple):
    """A document of a query, and where it stands in a scorer's list; -1: in none."""

    kind: str
    query: int
    document: int
    row: int


def sample_sections(
    source: Path, ids: Ids, candidates: Candidates, sample: Sample, judges: Mapping[str, Verdicts]
) -> list[Section]:
    """A section for each query: positives first, then negatives by rank."""
    with_negatives = np.unique(candidates.query_F[candidates.kept_F])
    count = min(sample.num_queries, len(with_negatives))
    queries = np.sort(
        np.random.default_rng(sample.seed).choice(with_negatives, count, replace=False)
    ).tolist()
    qrels = ids.qrels(source)
    right = qrels.where(qrels.value > 0)
    shown = {
        query: [
            *_positives(query, right.document[right.query == query].tolist(), candidates),
            *_negatives(query, candidates, sample.num_negatives),
        ]
        for query in queries
    }
    texts = _texts(source, {document.document for documents in shown.values() for document in documents})
    heads = _queries(source, set(queries))
    note = f"Drawn with seed {sample.seed}; of each query at most {sample.num_negatives} negatives."
    return [Section("Sample", note)] + [
        Section(
            heads[query][1],
            heads[query][0],
            [_table(documents, texts, candidates, judges)],
            is_query=True,
        )
        for query, documents in shown.items()
    ]


def _positives(query: int, documents: Sequence[int], candidates: Candidates) -> Iterable[_Shown]:
    rows = np.flatnonzero(candidates.query_F == query)
    for document in dict.fromkeys(documents):
        found = rows[candidates.document_F[rows] == document]
        yield _Shown("positive", query, document, int(found[0]) if len(found) else -1)


def _negatives(query: int, candidates: Candidates, count: int) -> Iterable[_Shown]:
    """Each document once, by the first scorer that has it; best rank first."""
    rows = np.flatnonzero((candidates.query_F == query) & candidates.kept_F)
    rows = rows[np.sort(np.unique(candidates.document_F[rows], return_index=True)[1])]
    for row in rows[np.argsort(candidates.rank_F[rows], kind="stable")][:count].tolist():
        yield _Shown("negative", query, int(candidates.document_F[row]), row)


def _table(
    documents: Sequence[_Shown],
    texts: Mapping[int, str],
    candidates: Candidates,
    judges: Mapping[str, Verdicts],
) -> Table:
    rows = []
    for shown in documents:
        scorer, rank, score = _place(candidates, shown.row)
        judged = [_said(judge, shown) for judge in judges.values()]
        rows.append((shown.kind, _short(texts[shown.document]), scorer, *judged, rank, score))
    header = ("", "Document", "Scorer", *judges, "Rank", "Score")
    return Table(header, rows, 3 + len(judges), _COLOURS)


def _place(candidates: Candidates, row: int) -> tuple[str, str, str]:
    if row < 0:
        return "–", "–", "–"
    rank = candidates.rank_F[row]
    name = candidates.names[int(candidates.scorer_F[row])]
    return name, "–" if np.isnan(rank) else f"{int(rank):,}", f"{candidates.score_F[row]:.3f}"


def _said(judge: Verdicts, shown: _Shown) -> str:
    key = pair_key(np.array([shown.query]), np.array([shown.document]))
    judged, right = judge.of(key)
    return ("right" if right[0] else "wrong") if judged[0] else "–"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS].rstrip()} …"


def _texts(source: Path, rows: set[int]) -> dict[int, str]:
    return {
        row: document_text(title, text)
        for row, (title, text) in _picked(source / CORPUS, ["title", "text"], rows).items()
    }


def _queries(source: Path, rows: set[int]) -> dict[int, tuple[str, str]]:
    """Id and text."""
    return {row: (key, text) for row, (key, text) in _picked(source / QUERIES, ["id", "text"], rows).items()}


def _picked(path: Path, columns: Sequence[str], rows: set[int]) -> dict[int, tuple[str, ...]]:
    """Some rows of a table, read block by block."""
    found: dict[int, tuple[str, ...]] = {}
    start = 0
    for block in blocks(path, columns):
        inside = sorted(row for row in rows if start <= row < start + len(block))
        picked = block.take([row - start for row in inside]).to_pylist() if inside else []
        found |= {
            row: tuple(each[name] for name in columns) for row, each in zip(inside, picked, strict=True)
        }
        start += len(block)
    return found
