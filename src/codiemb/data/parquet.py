"""The rows of a Parquet file with the columns of the unified format, a bounded number of them at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codiemb.data.cache import hash_file
from codiemb.data.formats import PARQUET
from codiemb.data.parquet_columns import as_json, check_columns
from codiemb.data.records import KEYS, RAW_KEYS
from codiemb.errors import UserError
from codiemb.raw_files.problems import Problem

_BYTES = 1 << 23  # of a batch, as the file's own metadata count them
_ROWS = 256  # of a batch at most: with a dictionary a file counts a text once that stands in many rows
_READ = 1 << 20  # bytes of a column read at once, where the default is all that a row group has of it


class ParquetRow(NamedTuple):
    """One row: its values by column, or a table of it alone where its batch holds what is no text."""

    number: int  # from 1, over all row groups
    values: dict[str, Any] | pa.RecordBatch

    @property
    def place(self) -> str:
        """`row 12`."""
        return f"row {self.number}"

    def fields(self) -> dict[str, Any]:
        """The values that are not null, as JSON would give them."""
        values = self.values if isinstance(self.values, dict) else _decoded(self.values)
        return {key: as_json(value) for key, value in values.items() if value is not None}

    def text(self) -> str:
        """A line of JSON; of a row that is no text as Arrow shows it."""
        values = self.values if isinstance(self.values, dict) else {"row": str(self.values.columns)}
        return json.dumps(values, ensure_ascii=False, default=str)


class ParquetRows:
    """The rows of a Parquet file in order.

    Memory: a page (1 MiB as most programs write it) of each column, and a batch of at most 256 rows or about
    8 MiB, however large a row group is. Columns that nobody reads stay on the disk.

    Raises:
        UserError: the file ends early or is damaged; a column is missing, stands twice or has another type.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._num_rows = self._num_read = 0
        with self._named_errors():
            _check_end(path, size)
            schema = pq.read_schema(path)
        check_columns(path, schema)
        self._columns = [name for name in schema.names if name in KEYS | RAW_KEYS]
        self._others = [name for name in schema.names if name not in self._columns]

    def __iter__(self) -> Iterator[ParquetRow]:
        with self._named_errors():
            for batch in self._batches():
                for values in _rows(batch):
                    self._num_read += 1
                    yield ParquetRow(self._num_read, values)
        if not self._num_read:
            raise UserError(f"{self._path}: the file has no row")

    @property
    def num_bytes(self) -> int:
        """In proportion to the rows."""
        return self._size * self._num_read // max(self._num_rows, 1)

    def digest(self) -> str:
        """xxh3: reads the file again, from memory unless it is too large for that."""
        return hash_file(self._path)

    def unread(self) -> dict[str, int]:
        """Columns that are no key of a record."""
        return dict.fromkeys(self._others, self._num_read)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(
            self._path, buffer_size=_READ, pre_buffer=False, page_checksum_verification=True
        ) as file:
            self._num_rows = file.metadata.num_rows
            for k in range(file.num_row_groups):
                group = file.metadata.row_group(k)
                rows = _BYTES * group.num_rows // max(group.total_byte_size, 1)
                yield from file.iter_batches(
                    batch_size=min(max(rows, 1), _ROWS),
                    row_groups=[k],
                    columns=self._columns,
                    use_threads=False,  # files are converted side by side
                )

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What Arrow raises, as the user's error."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            where = f"after row {self._num_read}, " if self._num_read else ""
            reason = error.strerror if isinstance(error, OSError) and error.errno else error
            raise UserError(
                f"{self._path}: {where}the Parquet file cannot be read ({reason}); "
                "copy, download or write it again"
            ) from error


def _check_end(path: Path, size: int) -> None:
    with path.open("rb") as file:
        file.seek(max(size - len(PARQUET), 0))
        if size < 3 * len(PARQUET) or file.read() != PARQUET:
            raise UserError(
                f"{path}: the Parquet file ends early (its last part, the footer, is missing); "
                "copy, download or write it again"
            )


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | pa.RecordBatch]:
    """The values of each row; a batch with bytes that are not UTF-8 is looked at row by row."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # before the first row was given out
        yield from (batch.slice(k, 1) for k in range(batch.num_rows))


def _decoded(row: pa.RecordBatch) -> dict[str, Any]:
    values = {}
    for name in row.schema.names:
        try:
            (values[name],) = row.column(name).to_pylist()
        except UnicodeDecodeError:
            raise Problem(f"{name}: not UTF-8 text") from None
    return values
