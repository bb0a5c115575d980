"""A line of progress every few seconds, with the time left, on stderr."""

import sys

from codiemb import progress


class Progress(progress.Progress):
    """How far a piece of work has come, on stderr.

    Args:
        what: said at the beginning of each line.
        total: in the same unit as what `advance` is told.
        unit: of the counts.
    """

    def __init__(self, what: str, total: int, unit: str = "rows") -> None:
        super().__init__(what, total, _say, unit)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
