"""A line of progress every few seconds, with the time left."""

import time
from collections.abc import Callable


class Progress:
    """How far a piece of work has come.

    Args:
        what: said at the beginning of each line.
        total: in the same unit as what `advance` is told.
        say: takes a line.
        unit: of the counts.
        seconds: between two lines.
    """

    def __init__(
        self, what: str, total: int, say: Callable[[str], None], unit: str = "rows", seconds: float = 5.0
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._say, self._seconds = say, seconds
        self._done = self._reused = 0
        self._started = self._shown = time.monotonic()

    def skip(self, count: int) -> None:
        """Done by an earlier, interrupted run: it says nothing of the speed."""
        self._done += count
        self._reused += count

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        now = time.monotonic()
        if now - self._shown >= self._seconds:
            self._shown = now
            self._show(now - self._started)

    def _show(self, seconds: float) -> None:
        fresh = max(self._done - self._reused, 1)
        left = round(seconds * max(self._total - self._done, 0) / fresh)
        share = 100 * self._done / max(self._total, 1)
        hours, rest = divmod(left, 3600)
        clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
        self._say(
            f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, {share:.0f} %, {clock} left"
        )
