"""Read a file of records line by line: each a record or a bad line; and watch that it stays as it is."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import xxhash

from codiemb.data.formats import check_file, read_head, refuse_other_formats
from codiemb.data.records import BadLine, BadLines, Problem, Record, parse_record
from codiemb.errors import UserError
from codiemb.json_files import numbered_lines

_MAX_KEYS = 1_000  # unknown ones that are counted; a file of random keys must not fill the memory


class Scan:
    """Iterate over a file's records and bad lines, once; blank lines are skipped.

    Attributes:
        num_bytes: read so far.
        state: of the file when it was opened.
        unknown: in how many records a key stands that none of their task has.

    Raises:
        UserError: the file is missing, unreadable, empty or no JSON lines at all, it changes meanwhile, or
            the score range is not a range.
    """

    def __init__(self, path: str | Path, score_range: tuple[float, float]) -> None:
        low, high = score_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(
                f"score_range={list(score_range)} of {path} must be [lowest, highest], both finite"
            )
        self.path = Path(path)
        self.score_range = (low, high)
        self.num_bytes = 0
        self.unknown: Counter[str] = Counter()
        self.state = check_file(self.path)
        refuse_other_formats(self.path, read_head(self.path))
        self._digest = xxhash.xxh3_128()

    def __iter__(self) -> Iterator[Record | BadLine]:
        empty = True
        for number, raw in self._lines():
            if not raw.strip():
                continue
            empty = False
            counted = self.unknown if len(self.unknown) < _MAX_KEYS else None
            try:
                yield parse_record(raw, self.score_range, counted)
            except Problem as problem:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                yield BadLine(f"{self.path}:{number}", str(problem), line)
        if empty:
            raise UserError(f"{self.path}: the file is empty; every line must be one JSON record")

    @property
    def digest(self) -> str:
        """xxh3 of the bytes read: the file's, at the end."""
        return self._digest.hexdigest()

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            for number, raw in numbered_lines(self.path):
                self.num_bytes += len(raw)
                self._digest.update(raw)
                yield number, raw
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read to its end ({error.strerror or error})") from error
        now = check_file(self.path)
        if now != self.state or self.num_bytes != now.size:
            raise UserError(
                f"{self.path}: changed while it was read ({self.state.size:,} bytes at the start, "
                f"{now.size:,} at the end): start again when it is written whole"
            )


def read_records(path: str | Path, *, score_range: tuple[float, float] = (0.0, 1.0)) -> Iterator[Record]:
    """Yield the records of a JSON-lines file; after the last line, raise if any line was bad.

    Args:
        path: one JSON object a line, as the released trainer reads them.
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
