"""The rows that a recipe works on: what fills its placeholders, and which queries and documents that is."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codiemb.errors import UserError
from data_prep.layout import CORPUS
from data_prep.mining.scored_by import query_rows
from data_prep.relations import Groups, Ids, is_kept
from data_prep.search.bm25 import Bm25Index
from data_prep.synthesis.draws import number
from data_prep.texts import Texts

_NEIGHBOURS = 10  # a passage's partner is among so many of the nearest


class Row(NamedTuple):
    """One unit of work.

    Attributes:
        key: hash of what was read, and which of its turns this is: what is drawn for it follows from this.
        number: from 0, for answers that several rows share.
        label: for people: an id.
        values: by placeholder.
        query: id of the query that was read, or "".
        instruction: of that query.
        documents: ids of the documents that were read; of a query all that answer it.
    """

    key: str
    number: int
    label: str
    values: dict[str, str]
    query: str = ""
    instruction: str = ""
    documents: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """Which rows: at most `limit` (None: all), each `per_row` times; passages cut to `max_characters`."""

    limit: int | None
    per_row: int
    seed: int
    max_characters: int


class Rows:
    """Rows that are made when they are needed: texts stay on the disk.

    Args:
        count: how many there are.
        per_row: turns of each.
        make: the row of an index; None if nothing can be made of it.
    """

    def __init__(self, count: int, per_row: int, make: Callable[[int], Row | None]) -> None:
        self._count, self._per_row, self._make = count, per_row, make

    def __len__(self) -> int:
        return self._count * self._per_row

    def block(self, start: int, end: int) -> list[Row]:
        """Those from a turn to another, each with a key and a number of its own."""
        found = []
        for index in range(start, min(end, len(self))):
            row = self._make(index // self._per_row)
            if row is not None:
                found.append(row._replace(key=f"{row.key} {index % self._per_row}", number=index))
        return found


def new_rows(recipe: str, wanted: Wanted) -> Rows:
    """Rows that nothing was read for."""
    if wanted.limit is None:
        raise UserError(f"synthesise: count: {recipe} reads nothing; say how many examples: --count 1000")
    return Rows(wanted.limit, wanted.per_row, lambda index: Row(f"{recipe} {index}", 0, str(index), {}))


def read_rows(source: Path, reads: str, texts: Texts, wanted: Wanted) -> Rows:
    """The rows of a source that are kept.

    Memory: its ids and row numbers; for queries their texts, for pairs of documents a BM25 index.

    Args:
        source: the folder.
        reads: document, documents or query.
        texts: of its documents.
        wanted: which.

    Raises:
        UserError: there is none.
    """
    reader = {"document": _documents, "documents": _pairs, "query": _queries}[reads]
    count, make = reader(source, texts, wanted)
    if not count:
        raise UserError(f"{source}: nothing is kept that this recipe reads ({reads})")
    return Rows(count, wanted.per_row, make)


_Made = tuple[int, Callable[[int], Row | None]]


def _documents(source: Path, texts: Texts, wanted: Wanted) -> _Made:
    ids = Ids.read(source)
    rows = _sample_documents(source, texts, wanted)

    def make(index: int) -> Row:
        text, name = texts[int(rows[index])], ids.document[int(rows[index])].as_py()
        return Row(_key(text), 0, name, {"passage": _cut(text, wanted)}, documents=(name,))

    return len(rows), make


def _pairs(source: Path, texts: Texts, wanted: Wanted) -> _Made:
    """A passage and one that is like it: one of its nearest by BM25 that is not equal to it."""
    ids, kept = Ids.read(source), np.flatnonzero(is_kept(source / CORPUS))
    rows = _sample_documents(source, texts, wanted)
    if not len(rows):
        return 0, lambda index: None
    bm25 = Bm25Index(texts[int(row)] for row in kept)

    def make(index: int) -> Row | None:
        first = texts[int(rows[index])]
        near = kept[bm25.top_k([first], _NEIGHBOURS + 1).document_C]
        others = [int(row) for row in near if texts[int(row)] != first]
        if not others:
            return None
        other = others[number(wanted.seed, _key(first), "partner") % len(others)]
        second, names = texts[other], tuple(ids.document[row].as_py() for row in (int(rows[index]), other))
        values = {"first": _cut(first, wanted), "second": _cut(second, wanted)}
        return Row(_key(first, second), 0, " ".join(names), values, documents=names)

    return len(rows), make


def _queries(source: Path, texts: Texts, wanted: Wanted) -> _Made:
    """Queries with an answer; their first one fills {positive}."""
    ids = Ids.read(source)
    right = ids.qrels(source)
    right = right.where(right.value > 0)
    groups = Groups.of(right.query, len(ids.query))
    rows = np.unique(right.query)
    asked = query_rows(source, rows)
    by_row = dict(zip(rows.tolist(), asked, strict=True))
    rows = _sample(rows, [_key(*each) for each in asked], wanted)

    def make(index: int) -> Row:
        instruction, text = by_row[int(rows[index])]
        documents = right.document[groups.of_query(int(rows[index]))].tolist()
        positive, name = texts[documents[0]], ids.query[int(rows[index])].as_py()
        names = tuple(ids.document[document].as_py() for document in documents)
        values = {"query": text, "positive": _cut(positive, wanted)}
        return Row(_key(instruction, text, positive), 0, name, values, name, instruction, names)

    return len(rows), make


def _sample_documents(source: Path, texts: Texts, wanted: Wanted) -> np.ndarray:
    rows = np.flatnonzero(is_kept(source / CORPUS))
    return _sample(rows, (_key(texts[int(row)]) for row in rows), wanted)


def _sample(rows: np.ndarray, keys: Iterable[str], wanted: Wanted) -> np.ndarray:
    """`count` of the rows in their order, drawn by their content."""
    if wanted.limit is None or wanted.limit >= len(rows):
        return rows
    drawn = np.fromiter((number(wanted.seed, key, "sample") for key in keys), np.uint64, len(rows))
    return rows[np.sort(np.argsort(drawn, kind="stable")[: wanted.limit])]


def _key(*texts: str) -> str:
    return f"{number(0, *texts):016x}"


def _cut(text: str, wanted: Wanted) -> str:
    return text[: wanted.max_characters]
