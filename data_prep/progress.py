"""A line of progress every few seconds, with the time left, on stderr."""

import sys
import time

_SECONDS = 5.0


class Progress:
    """How far a piece of work has come.

    Args:
        what: said at the beginning of each line.
        total: in the same unit as what `advance` is told.
        unit: of the counts.
    """

    def __init__(self, what: str, total: int, unit: str = "rows") -> None:
        self._what, self._total, self._unit = what, total, unit
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
        if now - self._shown >= _SECONDS:
            self._shown = now
            self._show(now - self._started)

    def _show(self, seconds: float) -> None:
        fresh = max(self._done - self._reused, 1)
        left = round(seconds * max(self._total - self._done, 0) / fresh)
        share = 100 * self._done / max(self._total, 1)
        hours, rest = divmod(left, 3600)
        clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
        print(
            f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, {share:.0f} %, {clock} left",
            file=sys.stderr,
            flush=True,
        )
