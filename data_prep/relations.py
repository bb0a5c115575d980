"""Which documents belong to which query: ids turned into row numbers once, and grouped by query."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.errors import UserError
from data_prep.blocks import column, open_table
from data_prep.layout import CORPUS, QRELS, QUERIES, schema_of, tables_of

MAX_REPORTED = 20


class Groups(NamedTuple):
    """Rows of a table of pairs, by query: those of query row q are `order[start[q] : start[q + 1]]`."""

    order: np.ndarray
    start: np.ndarray

    @staticmethod
    def of(query: np.ndarray, num_queries: int) -> "Groups":
        """Group pairs by the row number of their query; within a query they stay in their order."""
        counts = np.bincount(query, minlength=num_queries)
        return Groups(np.argsort(query, kind="stable"), np.concatenate([[0], np.cumsum(counts)]))

    def of_query(self, query: int) -> np.ndarray:
        """The rows of one query."""
        return self.order[self.start[query] : self.start[query + 1]]


class Pairs(NamedTuple):
    """Pairs of row numbers with a number each: a grade, or a score."""

    query: np.ndarray
    document: np.ndarray
    value: np.ndarray

    def where(self, mask: np.ndarray) -> "Pairs":
        """Some of them."""
        return Pairs(self.query[mask], self.document[mask], self.value[mask])

    @staticmethod
    def joined(parts: Sequence["Pairs"]) -> "Pairs":
        """Several, one after the other."""
        return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Ids(NamedTuple):
    """The ids of a source's queries and documents in the order of their tables, and which rows are kept.

    Memory: the ids themselves, one mark a row, and 8 bytes a pair.
    """

    query: pa.ChunkedArray
    document: pa.ChunkedArray
    query_kept: np.ndarray
    document_kept: np.ndarray

    @staticmethod
    def read(source: Path) -> "Ids":
        """Of a source folder."""
        return Ids(
            column(source / QUERIES, "id"),
            column(source / CORPUS, "id"),
            is_kept(source / QUERIES),
            is_kept(source / CORPUS),
        )

    def qrels(self, source: Path) -> Pairs:
        """The judgements that are kept, of queries and documents that are kept."""
        return self._live(self.pairs(source / QRELS, "grade"), is_kept(source / QRELS))

    def candidates(self, path: Path) -> Pairs:
        """The candidates that a search has found and that are kept, with their scores."""
        found = np.asarray(pc.is_valid(column(path, "rank")).to_numpy(), dtype=bool)
        return self._live(self.pairs(path, "score"), found & is_kept(path))

    def pairs(self, path: Path, value: str) -> Pairs:
        """All rows of a table of pairs, in its order.

        Raises:
            UserError: an id that is in neither table: the first 20 with their rows.
        """
        names = column(path, "query"), column(path, "document")
        rows = [positions(ids, found) for ids, found in zip((self.query, self.document), names, strict=True)]
        tables = path.parent / QUERIES, path.parent / CORPUS
        problems = [
            f"{path}: row {row + 1}: {ids[int(row)].as_py()!r} is not in {table.name}"
            for ids, found, table in zip(names, rows, tables, strict=True)
            for row in np.flatnonzero(found < 0)[:MAX_REPORTED]
        ]
        if problems:
            count = sum(int((found < 0).sum()) for found in rows)
            more = [f"... and {count - MAX_REPORTED} more"] if count > MAX_REPORTED else []
            raise UserError("\n".join([*problems[:MAX_REPORTED], *more]))
        values = column(path, value).to_numpy()
        return Pairs(rows[0], rows[1], values.astype(np.float64, copy=False))

    def _live(self, pairs: Pairs, kept: np.ndarray) -> Pairs:
        return pairs.where(kept & self.query_kept[pairs.query] & self.document_kept[pairs.document])


def is_kept(path: Path) -> np.ndarray:
    """Whether each row of a table is kept."""
    return np.asarray(pc.is_null(column(path, "dropped_by")).to_numpy(), dtype=bool)


def codes(path: Path, name: str) -> np.ndarray:
    """A column of strings as whole numbers, equal where they are; -1 where there is none (clusters)."""
    values = column(path, name).combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(values.indices, -1).to_numpy(), dtype=np.int64)


def positions(ids: pa.ChunkedArray, names: pa.ChunkedArray) -> np.ndarray:
    """The row of each name among the ids; -1 where it is none."""
    found = pc.fill_null(pc.index_in(names, value_set=ids.combine_chunks()), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def check_columns(source: Path) -> None:
    """Refuse a source whose tables lack a column.

    Raises:
        UserError: naming the table, the column, and those that there are.
    """
    for name in tables_of(source):
        with open_table(source / name, schema_of(name).names):
            pass


def check_ids(path: Path) -> None:
    """Refuse a table in which an id stands twice.

    Raises:
        UserError: naming the id and both rows.
    """
    with open_table(path, ["id"]):
        ids = column(path, "id").combine_chunks()
    first = pc.index_in(ids, value_set=ids).to_numpy()
    again = np.flatnonzero(first != np.arange(len(ids)))
    if len(again):
        row = int(again[0])
        raise UserError(f"{path}: rows {int(first[row]) + 1} and {row + 1} have one id, {ids[row].as_py()!r}")
