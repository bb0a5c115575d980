r"""The lines of a training file, plain or compressed; what is read of the file is counted and hashed."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import pyarrow as pa
import xxhash
from typing_extensions import override

from codiemb.data.formats import Packing
from codiemb.data.records import read_fields
from codiemb.errors import UserError

_BUFFER = 1 << 20  # bytes that are read at once
_UNPACKED = 1 << 16  # of unpacked text: what is unpacked together is lost together where the file is damaged


@runtime_checkable
class Row(Protocol):
    """One row of a file, not yet judged."""

    @property
    def place(self) -> str:
        """What stands after the file's name in a message: `12`, `row 12`."""
        ...

    def fields(self) -> dict[str, Any]:
        """Its values by key; raises Problem where it has none."""
        ...

    def text(self) -> str:
        """The row as it is shown to who must correct it."""
        ...


@runtime_checkable
class Rows(Protocol):
    """A file's rows, once."""

    def __iter__(self) -> Iterator[Row]:
        """Raises UserError where the file cannot be read to its end, or has no row."""
        ...

    @property
    def num_bytes(self) -> int:
        """Of the file, read so far."""
        ...

    def digest(self) -> str:
        """128 bits of the file's bytes, once all are read."""
        ...

    def unread(self) -> dict[str, int]:
        """Columns that nobody reads, and in how many rows they stand."""
        ...


class Line(NamedTuple):
    """A line of JSON."""

    number: int  # from 1, of the unpacked text
    raw: bytes

    @property
    def place(self) -> str:
        """The number."""
        return str(self.number)

    def fields(self) -> dict[str, Any]:
        """The object's members."""
        return read_fields(self.raw)

    def text(self) -> str:
        """The line, whatever bytes are in it."""
        return self.raw.decode("utf-8", "replace").rstrip("\n")


class JsonLines:
    r"""The lines of a file that are not blank; they end at \n only.

    Memory: the longest line, and 1 MiB.
    """

    def __init__(self, path: Path, packing: Packing | None) -> None:
        self._path = path
        self._packing = packing
        self._file: _HashedFile | None = None

    def __iter__(self) -> Iterator[Line]:
        number, is_empty = 0, True
        try:
            with _HashedFile(self._path) as self._file:
                for number, raw in enumerate(_unpacked(self._file, self._packing), start=1):
                    if raw.strip():
                        is_empty = False
                        yield Line(number, raw)
        except OSError as error:
            raise self._broken(error, number) from error
        if is_empty:
            raise UserError(f"{self._path}: the file is empty; every line must be one JSON record")

    @property
    def num_bytes(self) -> int:
        """Packed ones, where the file is packed."""
        return 0 if self._file is None else self._file.num_bytes

    def digest(self) -> str:
        """xxh3."""
        assert self._file is not None
        return self._file.xxh3.hexdigest()

    def unread(self) -> dict[str, int]:
        """None: JSON has no columns; a record's keys are its own."""
        return {}

    def _broken(self, error: OSError, number: int) -> UserError:
        if self._packing is None or error.errno is not None:
            return UserError(f"{self._path}: cannot be read to its end ({error.strerror or error})")
        how = f"its {self._packing.name} data is damaged ({error})"
        if "runcated" in str(error):
            how = f"the file ends early: its {self._packing.name} data is cut off"
        return UserError(
            f"{self._path}: {how}; line {number} and all before it are whole; "
            "copy, download or write the file again"
        )


def unpacked_head(path: Path, packing: Packing, size: int) -> bytes:
    """The first bytes of a packed file's content; fewer, or none, where it is damaged so early."""
    head = b""
    try:
        with path.open("rb", buffering=0) as file:
            lines = _unpacked(file, packing)
            while len(head) < size and (more := lines.read1(size - len(head))):
                head += more
    except OSError:  # said when the file is read
        return head
    return head


def _unpacked(file: io.RawIOBase, packing: Packing | None) -> io.BufferedReader:
    """Members that follow one another (`cat a.gz b.gz`) are one text."""
    if packing is None:
        return io.BufferedReader(file, _BUFFER)
    stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), packing.codec)
    return io.BufferedReader(cast(io.RawIOBase, stream), _UNPACKED)


class _HashedFile(io.RawIOBase):
    """A file that counts and hashes what is read of it, in order."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.num_bytes = 0
        self.xxh3 = xxhash.xxh3_128()

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any, /) -> int:
        count = self._file.readinto(buffer)
        self.num_bytes += count
        self.xxh3.update(memoryview(buffer)[:count])
        return count

    @override
    def close(self) -> None:
        self._file.close()
        super().close()
