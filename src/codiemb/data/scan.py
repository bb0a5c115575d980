"""Read a file of records row by row: each a record or a bad line; and watch that it stays as it is."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from codiemb.data.formats import (
    HEAD,
    PARQUET,
    FileState,
    check_file,
    packing_of,
    read_head,
    refuse_other_formats,
)
from codiemb.data.lines import JsonLines, Rows, unpacked_head
from codiemb.data.parquet import ParquetRows
from codiemb.data.records import BadLine, BadLines, Record, parse_record
from codiemb.errors import UserError
from codiemb.raw_files.problems import Problem

_MAX_KEYS = 1_000  # unknown ones that are counted; a file of random keys must not fill the memory


class Scan:
    """Iterate over a file's records and bad lines, once; blank lines are skipped.

    Attributes:
        state: of the file when it was opened.
        unknown: in how many records a key stands that none of their task has.

    Raises:
        UserError: the file is missing, unreadable, empty, damaged or of another format, it changes meanwhile,
            or the score range is not a range.
    """

    def __init__(self, path: str | Path, score_range: tuple[float, float]) -> None:
        low, high = score_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(
                f"score_range={list(score_range)} of {path} must be [lowest, highest], both finite"
            )
        self.path = Path(path)
        self.score_range = (low, high)
        self.unknown: Counter[str] = Counter()
        self.state = check_file(self.path)
        self._rows = _open_rows(self.path, self.state)

    def __iter__(self) -> Iterator[Record | BadLine]:
        try:
            for row in self._rows:
                counted = self.unknown if len(self.unknown) < _MAX_KEYS else None
                try:
                    yield parse_record(row.fields(), self.score_range, counted)
                except Problem as problem:
                    yield BadLine(f"{self.path}:{row.place}", str(problem), row.text())
        except UserError:
            self._check_state()  # the likelier reason
            raise
        self.unknown.update(self._rows.unread())
        self._check_state()
        if self.num_bytes != self.state.size:
            raise UserError(f"{self.path}: {self.num_bytes:,} of {self.state.size:,} bytes could be read")

    @property
    def num_bytes(self) -> int:
        """Of the file, read so far."""
        return self._rows.num_bytes

    @property
    def share(self) -> float:
        """Of the file, read so far."""
        return self.num_bytes / max(self.state.size, 1)

    def digest(self) -> str:
        """xxh3 of the file, once it was read to its end."""
        digest = self._rows.digest()
        self._check_state()
        return digest

    def _check_state(self) -> None:
        now = check_file(self.path)
        if now != self.state:
            raise UserError(
                f"{self.path}: changed while it was read ({self.state.size:,} bytes at the start, "
                f"{now.size:,} at the end): start again when it is written whole"
            )


def _open_rows(path: Path, state: FileState) -> Rows:
    """What reads a file of this content, whatever it is called."""
    head = read_head(path)
    if head.startswith(PARQUET):
        return ParquetRows(path, state.size)
    packing = packing_of(head)
    refuse_other_formats(path, unpacked_head(path, packing, HEAD) if packing else head, packing)
    return JsonLines(path, packing)


def read_records(path: str | Path, *, score_range: tuple[float, float] = (0.0, 1.0)) -> Iterator[Record]:
    """Yield the records of a training file; after the last one, raise if any line or row was bad.

    Args:
        path: JSON lines, as the released trainer reads them, also as gzip or Zstandard; or Parquet.
        score_range: lowest and highest gold score of this source; scores are mapped to [0, 1].

    Raises:
        UserError: what Scan raises, or the first 20 bad lines and their count.
    """
    bad = BadLines()
    for item in Scan(path, score_range):
        if isinstance(item, BadLine):
            bad.add(item)
        else:
            yield item
    if bad.count:
        raise UserError(str(bad))
