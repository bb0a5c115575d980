"""How many different texts there are, from their 64-bit hashes: 8 bytes for each."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

_WAITING = 2**18  # hashes as Python numbers: 10 MiB


class Distinct:
    """The different hashes among those that were added.

    Memory: 8 bytes for each different one, three times that while new ones are sorted in, and 10 MiB.
    """

    def __init__(self, values: Int64[np.ndarray, " n"] | None = None, added: int = 0) -> None:
        self._values = np.zeros(0, np.int64) if values is None else values
        self._waiting: list[int] = []
        self._pending: list[Int64[np.ndarray, " n"]] = []
        self.added = added

    def add(self, hashes: Iterable[int]) -> None:
        """More of them."""
        before = len(self._waiting)
        self._waiting.extend(hashes)
        self.added += len(self._waiting) - before
        if len(self._waiting) >= _WAITING:
            self._pack()
            # not each time: a sort of all for every quarter of a million would be most of the time
            if 2 * sum(map(len, self._pending)) > max(len(self._values), 2 * _WAITING):
                self._sort_in()

    @property
    def values(self) -> Int64[np.ndarray, " n"]:
        """The different ones, sorted."""
        self._pack()
        if self._pending:
            self._sort_in()
        return self._values

    @property
    def repeated(self) -> int:
        """How many of those added were there already."""
        return self.added - len(self.values)

    def merge(self, other: "Distinct") -> None:
        """Those of another file of this source."""
        self._values = np.union1d(self.values, other.values)
        self.added += other.added

    def common(self, other: "Distinct") -> int:
        """How many stand in both."""
        return len(np.intersect1d(self.values, other.values, assume_unique=True))

    def _pack(self) -> None:
        if self._waiting:
            self._pending.append(np.unique(np.array(self._waiting, np.int64)))
            self._waiting = []

    def _sort_in(self) -> None:
        self._values = np.unique(np.concatenate([self._values, *self._pending]))
        self._pending = []
