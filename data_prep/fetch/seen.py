"""Which keys have been met: eight bytes a key, whatever it stands for."""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def keys_of(rows: Sequence[Sequence[str]]) -> Keys:
    """A 64-bit key for each row.

    Two of ten million rows share one with a chance of 3 in a million; the later one would pass for the first.
    """
    keys = (xxhash.xxh3_64_intdigest("\0".join(row).encode()) for row in rows)
    return np.fromiter(keys, np.uint64, len(rows))


class Seen:
    """A set of keys in sorted runs, each longer than all that follow it: a key is moved log(n) times."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys are in the set."""
        found = np.zeros(len(keys), np.bool_)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            found |= run[place] == keys
        return found

    def add(self, keys: Keys) -> NDArray[np.bool_]:
        """Add the keys; which of them were new, and not a repetition of one before them."""
        new = np.zeros(len(keys), np.bool_)
        new[np.unique(keys, return_index=True)[1]] = True
        new &= ~self.has(keys)
        run = np.sort(keys[new])
        while self._runs and len(run) and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        return new
