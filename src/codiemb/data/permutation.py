"""A random permutation of 0..n-1 with random access and O(1) memory (Feistel network, cycle walking)."""

from enum import IntEnum
from functools import partial

import numpy as np
from jaxtyping import Int, UInt64

_ROUNDS = 8
_FEW = 64  # on so small a domain eight rounds do not reach all permutations equally often
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_MULTIPLIER = np.uint64(0x9FB21C651E98DF25)


class Stream(IntEnum):
    """What is drawn from a run's seed: the part of a key that keeps two of them apart."""

    CYCLE = 0  # the order of the sources
    EXAMPLES = 1  # of a source in an epoch
    DOCUMENTS = 2  # positives and negatives of a record
    WINDOWS = 3  # of a raw text, and their masks
    DROPOUT = 4


def mix(*parts: int) -> int:
    """A 64-bit key from integers, well mixed (splitmix64 finaliser)."""
    state = 0
    for part in parts:
        state = (state + 0x9E3779B97F4A7C15 + part) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def random_bits(n: int, key: int) -> UInt64[np.ndarray, " n"]:
    """The first n outputs of splitmix64 from the state `key`: 10 microseconds for a few hundred."""
    return mixed(np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN + np.uint64(key))


def mixed(value: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """The finaliser of splitmix64 (Steele et al. 2014): 64 bits in, 64 bits out, one to one."""
    value = value ^ (value >> np.uint64(30))  # a copy, changed in place from here on
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return value


class Permutation:
    """`permutation(positions)` is a bijection of 0..n-1 chosen by `key`.

    A Feistel network permutes the smallest power of two that holds n; positions that fall outside are walked
    on until they fall inside (on average once or less), which keeps it a bijection (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains"). No table, but up to 64 items, which are sorted by random keys.
    A batch of 64 costs about 0.2 milliseconds, nearly all of it numpy's overhead per call.
    """

    def __init__(self, n: int, key: int) -> None:
        if n < 1:
            raise ValueError(f"cannot permute {n} items")
        self._table: Int[np.ndarray, " n"] | None = None
        if n <= _FEW:
            self._table = np.array(sorted(range(n), key=partial(mix, key)))
            return
        self._n = np.uint64(n)
        bits = (n - 1).bit_length()
        low_bits = bits // 2
        self._low_bits = np.uint64(low_bits)
        self._low_mask = np.uint64((1 << low_bits) - 1)
        # A round takes the top bits of a 64-bit product, as many as the half that it changes has.
        self._high_shift = np.uint64(64 - (bits - low_bits))
        self._low_shift = np.uint64(64 - low_bits)
        self._keys = [np.uint64(mix(key, i)) for i in range(_ROUNDS)]

    def __call__(self, positions: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Items at these positions, each in 0..n-1."""
        if self._table is not None:
            return self._table[positions]
        values = self._encrypt(positions.astype(np.uint64))
        (outside,) = (values >= self._n).nonzero()
        while outside.size:
            walked = self._encrypt(values[outside])
            values[outside] = walked
            outside = outside[walked >= self._n]
        return values.astype(np.int64)

    def _encrypt(self, values: UInt64[np.ndarray, " k"]) -> UInt64[np.ndarray, " k"]:
        high, low = values >> self._low_bits, values & self._low_mask
        for i in range(0, _ROUNDS, 2):
            high ^= _hash(low, self._keys[i]) >> self._high_shift
            low ^= _hash(high, self._keys[i + 1]) >> self._low_shift
        return (high << self._low_bits) | low


def _hash(half: UInt64[np.ndarray, " k"], key: np.uint64) -> UInt64[np.ndarray, " k"]:
    """64 bits whose top ones depend on every bit of `half` and `key`."""
    x = (half ^ key) * _MULTIPLIER
    x ^= x >> _SHIFT
    x *= _MULTIPLIER
    return x
