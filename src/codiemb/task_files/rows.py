"""A task's files row by row, into Arrow, which holds every text once; a bad row is told with its place."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from codiemb.errors import UserError
from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import read_rows
from codiemb.task_files.found import unreadable

_ROWS = 8_192  # of Python objects at once

Value = TypeVar("Value")


class Rows:
    """Collects rows of a data set, without a copy of all of them as Python objects."""

    def __init__(self, **kinds: pa.DataType) -> None:
        self._schema = pa.schema(list(kinds.items()))
        self._block: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, *values: Any) -> None:  # noqa: ANN401  one a column
        """One row."""
        self._block.append(values)
        if len(self._block) == _ROWS:
            self._flush()

    def table(self, *without: str) -> pa.Table:
        """All rows, without some columns."""
        self._flush()
        return pa.Table.from_batches(self._batches, self._schema).drop_columns(list(without))

    def _flush(self) -> None:
        if self._block:
            columns = [pa.array(column, kind) for column, kind in zip(zip(*self._block), self._schema.types)]  # noqa: B905
            self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
            self._block = []


def each(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    take: Callable[[Fields], Value],
    header: Sequence[str] = (),
) -> Iterator[Value]:
    """What `take` makes of every row.

    Args:
        paths: the files, one after the other.
        columns: theirs by our names.
        take: raises Problem where a row is of no use.
        header: of tables without one.

    Raises:
        UserError: a row or a file is of no use, with its place.
    """
    for path in paths:
        is_empty = True
        for where, row in _rows(path, header):
            is_empty = False
            if isinstance(row, Problem):
                raise UserError(f"{where}: {row}")
            try:
                value = take(Fields(row, columns, where))
            except Problem as problem:
                raise UserError(f"{where}: {problem}") from problem
            yield value
        if is_empty:
            raise UserError(f"{path}: the file is empty: it has no row; write it again")


def _rows(path: Path, header: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | Problem]]:
    try:
        for number, row in read_rows([path], header=header):
            yield f"{path}:{number}", row
    except OSError as error:
        raise unreadable(path, error) from error


def visible(text: str, column: str) -> str:
    """The text itself.

    Raises:
        Problem: it has no character to see.
    """
    if not text or text.isspace():
        raise Problem(f"{column} is empty: every row needs a text; delete the row or give it one")
    return text


def refuse_one_value(path: Path, seen: Collection[object], name: str) -> None:
    """Raises UserError where all rows have one score or label: every model would be as good as any."""
    if len(seen) == 1:
        (value,) = seen
        raise UserError(f"{path}: every {name} is {value!r}; a task needs two different ones at least")
