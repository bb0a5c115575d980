"""Bad rows of raw files: the first of them are told together, with file, row and what to do."""

import json
from typing import NamedTuple, TextIO

MAX_REPORTED = 20


class BadRow(NamedTuple):
    """Where a row is, and why it is of no use."""

    where: str
    problem: str


class BadRows:
    """How many rows were bad, and the first of them: a wrong file of any size is told in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[BadRow] = []

    def add(self, where: str, problem: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < MAX_REPORTED:
            self.first.append(BadRow(where, problem))

    def __str__(self) -> str:
        lines = [f"{where}: {problem}" for where, problem in self.first]
        if self.count > len(self.first):
            lines.append(f"... and {self.count - len(self.first):,} more")
        head = f"{self.count:,} bad row{'s' if self.count > 1 else ''}"
        return "\n".join([f"{head}; correct them, or go on without them: --on-error skip", *lines])


class LoggedBadRows(BadRows):
    """Those that also stand in a file, one JSON object a line.

    Args:
        log: is written from its beginning.
    """

    def __init__(self, log: TextIO) -> None:
        super().__init__()
        self._log = log

    def add(self, where: str, problem: str) -> None:
        """One more."""
        super().add(where, problem)
        self._log.write(json.dumps(BadRow(where, problem)._asdict(), ensure_ascii=False) + "\n")
