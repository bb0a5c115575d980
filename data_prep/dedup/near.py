"""Near duplicates: documents that share a band and are similar enough, each with the one that it repeats.

Documents are taken in one order, the best first. A document that is similar enough to one that was kept
before it repeats that one (the first of them); else it is kept. So what is dropped has been compared, shingle
by shingle, with what is kept in its place: no chain of similar documents leads to one that is not.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

MOST = 100  # kept documents of a bucket with which further ones are compared
Similar = Callable[[int, Iterable[int]], Iterator[bool]]


class Buckets(NamedTuple):
    """Documents that share the key of a band with another, numbered by their order.

    Attributes:
        bucket: of each membership; those of document d are `bucket[start[d] : start[d + 1]]`.
        start: see there.
        size: of each bucket.
    """

    bucket: np.ndarray
    start: np.ndarray
    size: np.ndarray


class Near(NamedTuple):
    """What was found.

    Attributes:
        leader: the document that each repeats; its own number where it repeats none. full: how many documents
        met a bucket whose first MOST kept documents were all they were compared with.
    """

    leader: np.ndarray
    full: int


def bucket_up(bands: Iterable[np.ndarray], members: np.ndarray, count: int) -> Buckets:
    """Who shares a key, a band at a time: 24 bytes a document, and 40 for each band that it shares.

    Args:
        bands: for each the keys of `members`.
        members: numbers of the documents that have keys, ascending.
        count: of all documents.
    """
    found, buckets, sizes, next_bucket = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [], 0
    for key in bands:
        order = np.argsort(key, kind="stable")
        begins = np.flatnonzero(np.diff(key[order], prepend=~key[order[:1]]))
        lengths = np.diff(begins, append=len(order))
        found.append(members[order[np.repeat(lengths > 1, lengths)]])
        lengths = lengths[lengths > 1]
        buckets.append(np.repeat(np.arange(next_bucket, next_bucket + len(lengths)), lengths))
        sizes.append(lengths)
        next_bucket += len(lengths)
    member = np.concatenate(found)
    start = np.concatenate([[0], np.cumsum(np.bincount(member, minlength=count))])
    size = np.concatenate([np.zeros(0, np.int64), *sizes])
    return Buckets(np.concatenate(buckets)[np.argsort(member, kind="stable")], start, size)


def find_near(buckets: Buckets, similar: Similar, clusters: "Clusters") -> Near:
    """Which document repeats which.

    Args:
        buckets: of documents numbered by their order, the best 0.
        similar: whether a document is as similar as it must be to each of several, asked one by one.
        clusters: of these documents; one that repeats another is joined with all kept ones that it is
            similar to, also with such as come behind it.
    """
    kept = _Kept(buckets.size)
    leader, full = np.arange(len(buckets.start) - 1), 0
    for document, own in _sharing(buckets):
        others = kept.of(own)
        full += kept.is_full(own)
        answers = zip(others, similar(document, others), strict=True)
        found = next((other for other, is_similar in answers if is_similar), document)
        leader[document] = found
        if found == document:
            kept.add(document, own)
    for document, own in _sharing(buckets):
        if leader[document] != document:
            clusters.join(document, int(leader[document]))
            others = [other for other in kept.of(own) if not clusters.joined(document, other)]
            for other, is_similar in zip(others, similar(document, others), strict=True):
                if is_similar:
                    clusters.join(document, other)
    return Near(leader, full)


def _sharing(buckets: Buckets) -> Iterator[tuple[int, list[int]]]:
    """The documents that are in a bucket, in their order, with their buckets."""
    for document in np.flatnonzero(np.diff(buckets.start)).tolist():
        yield document, buckets.bucket[buckets.start[document] : buckets.start[document + 1]].tolist()


class Clusters:
    """Which documents belong together: a forest, rooted in the first of each; 8 bytes a document."""

    def __init__(self, count: int) -> None:
        self._above = np.arange(count)

    def join(self, first: int, second: int) -> None:
        """Their clusters are one from now on."""
        a, b = self.root(first), self.root(second)
        self._above[max(a, b)] = min(a, b)

    def joined(self, first: int, second: int) -> bool:
        """Whether they are in one."""
        return self.root(first) == self.root(second)

    def root(self, document: int) -> int:
        """The first document of its cluster."""
        above = self._above
        while (over := above[document]) != document:
            above[document] = above[over]  # the next time the way is half as long
            document = over
        return int(document)

    def roots(self) -> np.ndarray:
        """That of every document."""
        roots = self._above.copy()
        while (roots != (further := roots[roots])).any():
            roots = further
        return roots


class _Kept:
    """The kept documents of each bucket, in their order; no more than MOST."""

    def __init__(self, size: np.ndarray) -> None:
        room = np.minimum(size, MOST)
        self._documents = np.zeros(room.sum(), np.int64)
        self._start = np.concatenate([[0], np.cumsum(room)])
        self._count = np.zeros(len(size), np.int64)

    def of(self, buckets: Iterable[int]) -> list[int]:
        """Those of any of these buckets, the best first."""
        found = set[int]()
        for bucket in buckets:
            start = self._start[bucket]
            found.update(self._documents[start : start + self._count[bucket]].tolist())
        return sorted(found)

    def is_full(self, buckets: Iterable[int]) -> bool:
        """Whether one of them takes no more."""
        return any(self._count[bucket] == MOST for bucket in buckets)

    def add(self, document: int, buckets: Iterable[int]) -> None:
        """One more, behind those that are there."""
        for bucket in buckets:
            if self._count[bucket] < MOST:
                self._documents[self._start[bucket] + self._count[bucket]] = document
                self._count[bucket] += 1
