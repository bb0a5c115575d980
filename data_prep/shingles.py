"""The words of texts and their n-grams as 64-bit numbers: a whole block of texts at once, in numpy.

A word is a run of letters, marks and digits, after NFKC and case folding. Of scripts that put no spaces
between words each character is one: Chinese, kana, Thai, Lao, Khmer, Burmese. So `42.195` is two words, and
numbers count; punctuation and symbols do not. 15 microseconds for a hundred words; loops in Python take five
times that.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from codiemb.data.permutation import mixed

MAX_CHARACTERS = 2**20  # of a text; what follows is not looked at: an array of 40 bytes for each is in memory
_BLOCK = 2**18  # characters that are looked at together: their arrays fit a cache
_ALONE = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF),
          (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))  # fmt: skip
_LAST = 0x32400  # code points from here on are no letters of any script in use


class Ragged(NamedTuple):
    """Numbers of several texts: those of text t are `values[start[t] : start[t + 1]]`."""

    values: np.ndarray
    start: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """How many each text has."""
        return np.diff(self.start)

    def of(self, text: int) -> np.ndarray:
        """Those of one text."""
        return self.values[self.start[text] : self.start[text + 1]]


class Words(NamedTuple):
    """The words of one text: a number and the place of each, in the text as it was normalised."""

    text: str
    values: np.ndarray
    first: np.ndarray
    last: np.ndarray  # the place behind its last character


def shingles(texts: Sequence[str], size: int) -> Ragged:
    """The n-grams of `size` words of each text, in order, repeated ones too; a text with fewer has none."""
    parts = [_grams(_words(block)[0], size) for block in _blocks(texts)]
    values = [part.values for part in parts]
    counts = np.concatenate([np.zeros(1, np.int64), *(part.counts for part in parts)])
    return Ragged(np.concatenate([np.zeros(0, np.uint64), *values]), np.cumsum(counts))


def words(text: str) -> Words:
    """The words of one text with their places."""
    normal = _normal(text)
    found, first, last = _words([normal])
    return Words(normal, found.values, first, last)


def of_words(values: np.ndarray, size: int) -> np.ndarray:
    """The n-grams of the words of one text: number i is that of words i to i + size - 1."""
    return _grams(Ragged(values, np.array([0, len(values)])), size).values


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    block, size = list[str](), 0
    for text in map(_normal, texts):
        if block and size + len(text) > _BLOCK:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text)
    if block:
        yield block


def _words(normal: Sequence[str]) -> tuple[Ragged, np.ndarray, np.ndarray]:
    """Numbers of the words of each text, and where each word begins and ends in all texts, joined by \\n.

    The number of a word is the sum of a mixed number for each character at its place in the word.
    """
    codes = np.frombuffer("\n".join(normal).encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(codes, _LAST)]
    ends = np.cumsum([len(text) + 1 for text in normal])
    begins = kinds > 0
    places = np.flatnonzero(begins)
    begins[1:] &= (kinds[:-1] == 0) | (kinds[1:] == 2) | (kinds[:-1] == 2)
    first = np.flatnonzero(begins[places])
    if not len(first):
        nothing = np.zeros(0, np.int64)
        return Ragged(np.zeros(0, np.uint64), np.zeros(len(normal) + 1, np.int64)), nothing, nothing
    lengths = np.diff(first, append=len(places))
    within = np.arange(len(places)) - np.repeat(first, lengths)
    numbers = mixed(
        (codes[places] | (within.astype(np.uint64) << np.uint64(32))) + np.uint64(0x9E3779B97F4A7C15)
    )
    start = np.searchsorted(places[first], np.concatenate([[0], ends]))
    return Ragged(np.add.reduceat(numbers, first), start), places[first], places[first + lengths - 1] + 1


def _grams(found: Ragged, size: int) -> Ragged:
    counts = np.maximum(found.counts - size + 1, 0)
    start = np.concatenate([[0], np.cumsum(counts)])
    length = len(found.values) - size + 1
    if length <= 0:
        return Ragged(np.zeros(0, np.uint64), start)
    number = found.values[:length].copy()
    for place in range(1, size):
        number = mixed(number) + found.values[place : place + length]
    inside = np.zeros(length + 1, np.int64)  # +1 where a text's n-grams begin, -1 behind its last
    np.add.at(inside, found.start[:-1][counts > 0], 1)
    np.add.at(inside, (found.start[:-1] + counts)[counts > 0], -1)
    return Ragged(mixed(number[np.cumsum(inside[:-1]) > 0]), start)


@cache
def _kinds() -> np.ndarray:
    """0 between words, 1 in a word, 2 a word by itself; for each code point up to _LAST."""
    kinds = np.zeros(_LAST + 1, np.uint8)
    for code in range(_LAST):
        character = chr(code)
        kinds[code] = character.isalnum() or unicodedata.category(character)[0] == "M"
    for first, last in _ALONE:
        kinds[first : last + 1] *= 2
    return kinds
