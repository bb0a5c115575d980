"""Read and write a table in blocks: a row group of a file is what a step holds in memory at once."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codiemb.errors import UserError

MAX_ROWS = 16_384
MAX_BYTES = 32 * 2**20  # of a block in memory, a single longer row excepted


class TableWriter:
    """Write blocks to one file, small ones joined and large ones cut; the same blocks give the same bytes.

    Use it as a context: without an error inside, the file is whole at the end.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # zstd: texts take a third of what snappy needs, at half the disk's speed
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def write(self, table: pa.Table) -> None:
        """Add rows; columns that are not given are null."""
        for block in _cut(conform(table, self.schema)):
            if self._rows and (self._rows + len(block) > MAX_ROWS or self._bytes + block.nbytes > MAX_BYTES):
                self._flush()
            self._waiting.append(block)
            self._rows += len(block)
            self._bytes += block.nbytes

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=MAX_ROWS)
            self._waiting, self._rows, self._bytes = [], 0, 0


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The schema's columns in its order; null where the table has none, others left out."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    """Pieces that fit a block, by halving."""
    if len(table) <= 1 or (len(table) <= MAX_ROWS and table.nbytes <= MAX_BYTES):
        if len(table):
            yield table
        return
    half = len(table) // 2
    yield from _cut(table.slice(0, half))
    yield from _cut(table.slice(half).combine_chunks())


def open_table(path: Path, columns: Iterable[str] = ()) -> pq.ParquetFile:
    """A Parquet file that has these columns.

    Raises:
        UserError: there is none, it is damaged or cut off, or a column is missing; those present are listed.
    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this the folder that a step of data_prep wrote?") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path}: no whole Parquet file ({_first_line(error)}); make or fetch it again"
        ) from error
    if missing := [name for name in columns if name not in file.schema_arrow.names]:
        raise UserError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(file.schema_arrow.names)}"
        )
    return file


def num_blocks(path: Path) -> int:
    """How many row groups a file has."""
    with open_table(path) as file:
        return file.num_row_groups


def block_sizes(path: Path) -> list[int]:
    """How many rows each row group has."""
    with open_table(path) as file:
        return [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]


def num_rows(path: Path) -> int:
    """How many rows a file has."""
    with open_table(path) as file:
        return file.metadata.num_rows


def blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a file, in order.

    Raises:
        UserError: what `open_table` raises, or a block is damaged.
    """
    with open_table(path, columns or ()) as file:
        for index in range(file.num_row_groups):
            yield _read(file, path, index, columns)


def block(path: Path, index: int) -> pa.Table:
    """One row group of a file.

    Raises:
        UserError: what `blocks` raises.
    """
    with open_table(path) as file:
        return _read(file, path, index, None)


def _read(file: pq.ParquetFile, path: Path, index: int, columns: Sequence[str] | None) -> pa.Table:
    try:
        return file.read_row_group(index, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: block {index} is damaged ({_first_line(error)}); make it again") from error


def column(path: Path, name: str) -> pa.ChunkedArray:
    """One whole column, for what must be at hand at once: ids and marks, never texts."""
    with open_table(path, [name]) as file:
        return file.read(columns=[name])[name]


def kept(table: pa.Table) -> pa.Table:
    """Without the rows that a step has dropped."""
    return table.filter(pc.is_null(table["dropped_by"]))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
