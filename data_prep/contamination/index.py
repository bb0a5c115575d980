"""Which texts hold a text of the test side: by content hash, and by the share of its n-grams."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from codiemb.data import content_hash
from data_prep.contamination.sides import ScoredText
from data_prep.shingles import Ragged, of_words, shingles, words

MOST = 100  # test texts that an n-gram may stand in; one of more says nothing of any
SAME_TEXT = "same text"


class Match(NamedTuple):
    """A row, the test text that it holds, how that was found, and to what share."""

    row: int
    test: int
    reason: str
    share: float


class ScoredIndex:
    """The texts of the test side, each once: some 24 bytes for each of their words, and the texts.

    Args:
        texts: of all tasks.
        size: words of an n-gram, characters of Chinese.
    """

    def __init__(self, texts: Sequence[ScoredText], size: int) -> None:
        self._row_of: dict[int, int] = {}
        self.texts: list[ScoredText] = []
        for each in texts:
            if self._row_of.setdefault(content_hash(each.text), len(self.texts)) == len(self.texts):
                self.texts.append(each)
        self.size = size
        sets = shingles([each.text for each in self.texts], size)
        pairs = np.stack([sets.values, np.repeat(np.arange(len(self.texts), dtype=np.uint64), sets.counts)])
        pairs = np.unique(pairs, axis=1)
        self._values, start = np.unique(pairs[0], return_index=True)
        counts = np.diff(start, append=pairs.shape[1])
        telling = np.repeat(counts <= MOST, counts)
        self._values, counts = self._values[counts <= MOST], counts[counts <= MOST]
        self._test = pairs[1][telling].astype(np.int64)
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self._grams_of = np.bincount(self._test, minlength=len(self.texts))

    def matches(self, texts: Sequence[str], min_share: float) -> Iterator[Match]:
        """The rows that hold a test text, each with the one of which it holds most."""
        best = self._best(shingles(texts, self.size), min_share)
        for row, text in enumerate(texts):
            same = self._row_of.get(content_hash(text)) if text else None
            if same is not None:
                yield Match(row, same, SAME_TEXT, 1.0)
            elif row in best:
                yield Match(row, best[row][0], f"{self.size}-grams", best[row][1])

    def span(self, text: str, test: int) -> str:
        """The longest run of words of a text that stands in a test text."""
        found = words(text)
        theirs = shingles([self.texts[test].text], self.size).values
        hit = np.isin(of_words(found.values, self.size), theirs)
        edges = np.flatnonzero(np.diff(hit.astype(np.int8), prepend=0, append=0))
        if not len(edges):
            return ""
        begins, ends = edges[::2], edges[1::2]
        longest = int((ends - begins).argmax())
        last = int(ends[longest]) - 1 + self.size - 1
        return found.text[int(found.first[begins[longest]]) : int(found.last[last])]

    def _best(self, sets: Ragged, min_share: float) -> dict[int, tuple[int, float]]:
        """Of each row with enough of a test text: that text, and the share of its n-grams."""
        if not len(self._values) or not len(sets.values):
            return {}
        place = np.minimum(np.searchsorted(self._values, sets.values), len(self._values) - 1)
        hit = self._values[place] == sets.values
        rows = np.repeat(np.arange(len(sets.counts)), sets.counts)[hit]
        pairs = np.unique(np.stack([rows, place[hit]]), axis=1)  # an n-gram counts once in a row
        tests, counts = self._tests_of(pairs[1])
        found, number = np.unique(np.stack([np.repeat(pairs[0], counts), tests]), axis=1, return_counts=True)
        share = number / self._grams_of[found[1]]
        best: dict[int, tuple[int, float]] = {}
        for at in np.lexsort((found[1], -share, found[0])).tolist():
            if share[at] >= min_share:
                best.setdefault(int(found[0, at]), (int(found[1, at]), float(share[at])))
        return best

    def _tests_of(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The test texts of each n-gram, one after the other, and how many each has."""
        counts = self._start[value + 1] - self._start[value]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._test[np.repeat(self._start[value], counts) + within], counts
