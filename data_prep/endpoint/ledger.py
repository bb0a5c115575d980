"""The ledger: a line for each answer, flushed to the disk; what stands in it is never asked again."""

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codiemb.atomic import sync
from codiemb.errors import UserError
from codiemb.json_files import numbered_lines
from data_prep.endpoint.request import Answer

_VERSION = 1


class Ledger:
    """The answers of one model, by the key of the request; `opened` makes one.

    Memory: some 150 bytes an answer; their texts stay on the disk.

    Attributes:
        asked, answered: tokens of all answers.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file = descriptor
        self._place: dict[bytes, tuple[int, int]] = {}
        self._size = 0
        self.asked = self.answered = 0

    @staticmethod
    @contextmanager
    def opened(path: Path, model: str) -> Iterator["Ledger"]:
        """The ledger of a file, which nobody else may write meanwhile; a half last line is cut off.

        Raises:
            UserError: it cannot be written, is of another model, is damaged, or is in use.
        """
        descriptor = _open(path)
        try:
            ledger = Ledger(path, descriptor)
            ledger._read(model)
            yield ledger
        finally:
            os.close(descriptor)

    def __len__(self) -> int:
        return len(self._place)

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if there is one."""
        place = self._place.get(bytes.fromhex(key))
        if place is None:
            return None
        line = json.loads(os.pread(self._file, place[1], place[0]))
        return Answer(line["text"], line.get("problem"), *line["tokens"])

    def append(self, entries: Iterable[tuple[str, Answer, str]]) -> None:
        """Key, answer and what each was for: all on the disk when this returns; one flush for all of them.

        Raises:
            OSError: the disk is full; the ledger is as it was.
        """
        lines = [(key, answer, _line(key, answer, about)) for key, answer, about in entries]
        self._write(b"".join(line for _, _, line in lines))
        for key, answer, line in lines:
            self._note(key, (answer.asked, answer.answered), self._size, len(line))
            self._size += len(line)

    def _write(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._size + written)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            error.filename = str(self.path)
            raise

    def _note(self, key: str, tokens: Sequence[int], place: int, size: int) -> None:
        self._place[bytes.fromhex(key)] = (place, size)  # the last line of a key counts
        self.asked += tokens[0]
        self.answered += tokens[1]

    def _read(self, model: str) -> None:
        bad: int | None = None
        for number, line in numbered_lines(self.path):
            if bad is not None:  # only what was written last may be half there
                raise UserError(
                    f"{self.path}:{bad}: damaged; remove this line, and its request is asked again"
                )
            if (entry := _parsed(line)) is None:
                bad = number
                continue
            if number == 1:
                self._check(entry, model)
            else:
                self._note(entry["key"], entry["tokens"], self._size, len(line))
            self._size += len(line)
        if bad is not None:
            os.ftruncate(self._file, self._size)
            print(f"{self.path}: its last line was half written, and is cut off", file=sys.stderr)
        if not self._size:
            head = json.dumps({"ledger": _VERSION, "model": model}, ensure_ascii=False) + "\n"
            self._write(head.encode())
            self._size = len(head.encode())
            sync(self.path.parent)

    def _check(self, head: dict[str, Any], model: str) -> None:
        if head.get("ledger") != _VERSION:
            raise UserError(f"{self.path}: no ledger of this version; give another: --ledger FILE")
        if head["model"] != model:
            raise UserError(
                f"{self.path}: holds answers of the model {head['model']!r}, and {model!r} is to be asked; "
                "give another file: --ledger FILE"
            )


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"ledger {path}: cannot be written ({error.strerror}); give another: --ledger FILE"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{path} is being written by another process; wait for it") from None
    return descriptor


def _line(key: str, answer: Answer, about: str) -> bytes:
    entry: dict[str, Any] = {"key": key, "about": about, "tokens": [answer.asked, answer.answered]}
    if answer.problem:
        entry["problem"] = answer.problem
    entry["text"] = answer.text
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line, or None if it is not a whole one."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and ("ledger" in entry or {"key", "tokens", "text"} <= entry.keys())
    return entry if whole else None
