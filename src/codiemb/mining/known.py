"""Pairs of a query and a value that are known to fit, so that no candidate among millions is one of them."""

import numpy as np

from codiemb.data.permutation import mixed


class KnownPairs:
    """A set of pairs of numbers, below 2^64 each: 8 bytes a pair, looked up by bisection.

    Two pairs are taken for one with a chance of 2^-64.

    Args:
        query_P: the query of each pair: its number, or the hash of its text.
        value_P: what fits it: the hash of a text, the number of a cluster.
    """

    def __init__(self, query_P: np.ndarray, value_P: np.ndarray) -> None:
        self._keys = np.sort(_key(query_P, value_P))

    def hold(self, query_F: np.ndarray, value_F: np.ndarray) -> np.ndarray:
        """Whether each of F pairs is one of them."""
        key_F = _key(query_F, value_F)
        place_F = np.searchsorted(self._keys, key_F)
        found_F = place_F < len(self._keys)
        found_F[found_F] = self._keys[place_F[found_F]] == key_F[found_F]
        return found_F


def _key(query_F: np.ndarray, value_F: np.ndarray) -> np.ndarray:
    query_F, value_F = (number.astype(np.int64).view(np.uint64) for number in (query_F, value_F))
    return mixed(mixed(query_F) + value_F)
