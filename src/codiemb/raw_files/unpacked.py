"""The bytes of a file, or of its pieces, unpacked as their first bytes say."""

import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from codiemb.errors import UserError

Unpacked = io.BufferedReader | gzip.GzipFile  # both know `peek`
CHUNK = 1 << 20


@contextmanager
def open_unpacked(paths: Sequence[Path], advance: Callable[[int], object]) -> Iterator[Unpacked]:
    """The bytes of the pieces one after another, unpacked as their first bytes say."""
    with ExitStack() as stack:
        plain = cast(io.BufferedReader, io.BufferedReader(_Joined(paths, advance), CHUNK))
        stack.push(closing(plain))
        head = plain.peek(4)[:4]
        if head[:2] == b"\x1f\x8b":
            yield stack.enter_context(gzip.GzipFile(fileobj=plain))
        elif head == b"\x28\xb5\x2f\xfd":
            packed = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(plain, mode="r"), "zstd"))
            yield stack.enter_context(io.BufferedReader(packed))
        else:
            yield plain


class _Joined(io.RawIOBase):
    """Files read as one, and how much of them."""

    def __init__(self, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
        self._advance, self._left = advance, list(paths)
        self._file = self._left.pop(0).open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        """Fill it, over the ends of files: who looks at the first bytes must see them, wherever the cuts."""
        view, count = memoryview(buffer), 0
        while count < len(view):
            if read := self._file.readinto(view[count:]):
                count += read
            elif self._left:
                self._file.close()
                self._file = self._left.pop(0).open("rb", buffering=0)
            else:
                break
        self._advance(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def refuse_pages(path: Path, file: Unpacked) -> None:
    """What a failed download leaves under the name of a data file.

    Raises:
        UserError: it is such a page, or a pointer to the file.
    """
    head = file.peek(64)[:64].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path}: a page of HTML or XML (a failed download looks so); get the file again")
