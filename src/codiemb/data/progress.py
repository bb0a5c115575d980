"""How far a conversion is: a line in the log every ten seconds, with the time left."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_SECONDS = 10.0  # between two lines


class Progress:
    """Of files that are converted, one after another or side by side.

    Args:
        files: what is converted.
        sizes: their bytes, as they lie on the disk: the time left is that of the bytes left.
    """

    def __init__(self, files: Sequence[Path], sizes: Sequence[int]) -> None:
        self._what = str(files[0]) if len(files) == 1 else f"{len(files)} files ({files[0]}, ...)"
        self._sizes = sizes
        self._counts = [0] * len(files)
        self._shares = [0.0] * len(files)
        self._started = self._shown = time.monotonic()

    def update(self, file: int, num_records: int, share: float) -> None:
        """So many records were read of a file, which are this share of it."""
        self._counts[file], self._shares[file] = num_records, share
        now = time.monotonic()
        if now - self._shown < _SECONDS:
            return
        self._shown = now
        done = sum(size * share for size, share in zip(self._sizes, self._shares, strict=True))
        whole = max(done / max(sum(self._sizes), 1), 1e-9)
        left = (now - self._started) * (1 / whole - 1)
        log.info(
            "converting %s: %s records, %.0f %%, %d:%02d left",
            self._what, f"{sum(self._counts):,}", 100 * whole, *divmod(round(left), 60),
        )  # fmt: skip
