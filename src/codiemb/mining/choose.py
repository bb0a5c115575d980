"""Take some of the candidates that may be hard negatives: the hardest, any, or spread over the window."""

from typing import Literal

import numpy as np
import xxhash

from codiemb.mining.limits import KEPT, REASONS

Choice = Literal["top", "random", "spread"]
_NOT_CHOSEN = REASONS.index("not chosen")


def choose(
    verdict_F: np.ndarray, query_F: np.ndarray, key_F: np.ndarray, count: int, choice: Choice, seed: int
) -> np.ndarray:
    """Verdicts in which at most `count` candidates of each query are still kept.

    A query with fewer keeps those it has: nothing is filled up.

    Args:
        verdict_F: codes of REASONS; candidates of one query stand together, best rank first.
        query_F: the query of each, as a number.
        key_F: a number that says which pair this is, whatever block it came in: `random` draws by it.
        count: of negatives for each query.
        choice: "top" takes the best ranks, "random" any, "spread" some at equal distances.
        seed: of "random".
    """
    result_F = verdict_F.copy()
    left = np.flatnonzero(verdict_F == KEPT)
    starts = np.flatnonzero(np.diff(query_F[left], prepend=-1))
    for rows in np.split(left, starts[1:]):
        if len(rows) > count:
            taken = _places(len(rows), count, choice, seed, key_F[rows])
            result_F[np.delete(rows, taken)] = _NOT_CHOSEN
    return result_F


def _places(length: int, count: int, choice: Choice, seed: int, keys: np.ndarray) -> np.ndarray:
    if choice == "top":
        return np.arange(count)
    if choice == "spread":
        return np.arange(count) * (length - 1) // max(count - 1, 1)
    drawn = [xxhash.xxh64_intdigest(int(key).to_bytes(8, "little", signed=True), seed) for key in keys]
    return np.argsort(np.array(drawn, dtype=np.uint64), kind="stable")[:count]


def pair_key(query_F: np.ndarray, document_F: np.ndarray) -> np.ndarray:
    """One number for a pair of row numbers below 2^31."""
    return (query_F.astype(np.int64) << 32) | document_F.astype(np.int64)
