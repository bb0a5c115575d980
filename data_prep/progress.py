"""A line of progress every few seconds, with the time left, on stderr."""

import sys
from collections.abc import Callable

from codiemb import progress


class Progress(progress.Progress):
    """How far a piece of work has come, on stderr.

    Args:
        what: said at the beginning of each line.
        total: in the same unit as what `advance` is told.
        unit: of the counts.
        note: asked for what stands at the end of a line.
    """

    def __init__(
        self, what: str, total: int, unit: str = "rows", note: Callable[[], str] = lambda: ""
    ) -> None:
        super().__init__(what, total, self._print, unit)
        self._note = note

    def _print(self, line: str) -> None:
        note = f", {said}" if (said := self._note()) else ""
        print(f"{line}{note}", file=sys.stderr, flush=True)
