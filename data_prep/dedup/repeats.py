"""Which document of a pool repeats which, by content hash and by shingles, and which belong together."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from codiemb.data import content_hash
from data_prep.dedup.minhash import BANDS
from data_prep.dedup.near import Clusters, bucket_up, find_near
from data_prep.dedup.pool import Pool
from data_prep.dedup.signatures import Content, Signed, jaccard
from data_prep.layout import CORPUS, QUERIES

KEPT, SAME_TEXT, NEAR = 0, 1, 2
REASONS = (None, "same text", "near duplicate")


class Repeats(NamedTuple):
    """Of every document, by row number.

    Attributes:
        of: the document that it repeats, itself where it repeats none.
        why: KEPT, SAME_TEXT or NEAR.
        cluster: the first document of its cluster; -1 where it is alone.
        full: documents that were not compared with all that share a band.
    """

    of: np.ndarray
    why: np.ndarray
    cluster: np.ndarray
    full: np.ndarray

    def save(self, path: Path) -> None:
        """To a file that `load` reads."""
        with path.open("wb") as file:
            np.savez(file, **self._asdict())

    @staticmethod
    def load(path: Path) -> "Repeats":
        """From a file that `save` wrote."""
        with np.load(path) as file:
            return Repeats(*(file[name] for name in Repeats._fields))


def find_repeats(pool: Pool, signed: Signed, threshold: float | None, *, drop_near: bool) -> Repeats:
    """Compare all documents that are kept. Memory: about 150 bytes a document and 40 a shared band.

    Args:
        pool: the sources.
        signed: what `sign` wrote of their corpora.
        threshold: the least Jaccard similarity of near duplicates; None: equal texts only.
        drop_near: whether a near duplicate repeats another, or is only in one cluster with it.
    """
    content = signed.content()
    order = best_first(pool, content)
    first = first_with(content.hash, order)
    unique = order[first[order] == order]
    number = np.full(len(content.hash), -1)  # of each unique document, the best 0
    number[unique] = np.arange(len(unique))
    clusters = Clusters(len(unique))
    _join_known(pool, number[first], clusters)
    leader, full = np.arange(len(unique)), 0
    if threshold is not None:
        has_shingles = np.flatnonzero(content.num_shingles[unique])
        bands = (signed.band(band)[unique[has_shingles]] for band in range(BANDS))
        buckets = bucket_up(bands, has_shingles, len(unique))
        leader, full = find_near(buckets, _Comparison(signed, unique, threshold), clusters)
    if not drop_near:
        leader = np.arange(len(unique))
    return _of_all(content.kept, first, unique, number, leader, clusters.roots(), full)


def best_first(pool: Pool, content: Content) -> np.ndarray:
    """The kept documents in the order in which they are kept, whatever the order of rows and files.

    By the priority of their source, then longer ones first, then by content hash, then by id.
    """
    table = pa.table(
        {
            "priority": pool.source_of(CORPUS),
            "shorter": -content.length,
            "hash": content.hash,
            "id": pool.column(CORPUS, "id"),
        }
    )
    keys = [(name, "ascending") for name in table.column_names]
    order = pc.sort_indices(table, sort_keys=keys).to_numpy().astype(np.int64)
    return order[content.kept[order]]


def first_with(key: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each row that `order` holds the first row in it with the same key; for the others themselves."""
    first = np.arange(len(key))
    _, place, which = np.unique(key[order], return_index=True, return_inverse=True)
    first[order] = order[place[which]]
    return first


def equal_queries(pool: Pool, kept: np.ndarray) -> np.ndarray:
    """The query that each repeats: the same text and instruction; by priority of the source, then by id."""
    keys = np.concatenate([_query_keys(pool.block(QUERIES, place)) for place in pool.places(QUERIES)])
    table = pa.table({"priority": pool.source_of(QUERIES), "id": pool.column(QUERIES, "id")})
    order = pc.sort_indices(table, sort_keys=[("priority", "ascending"), ("id", "ascending")]).to_numpy()
    return first_with(keys, order[kept[order]].astype(np.int64))


def _query_keys(block: pa.Table) -> np.ndarray:
    texts, instructions = block["text"].to_pylist(), block["instruction"].to_pylist()
    keys = (
        xxhash.xxh3_64_intdigest(f"{content_hash(text or '')} {instruction or ''}".encode())
        for text, instruction in zip(texts, instructions, strict=True)
    )
    return np.fromiter(keys, np.uint64, len(block))


class _Comparison:
    """Whether a document is similar to others, by all their shingles; two sets are in memory at once."""

    def __init__(self, signed: Signed, documents: np.ndarray, threshold: float) -> None:
        self._signed, self._documents, self._threshold = signed, documents, threshold

    def __call__(self, document: int, others: Iterable[int]) -> Iterator[bool]:
        own: set[int] | None = None
        for other in others:
            own = own or self._shingles(document)
            yield jaccard(own, self._shingles(other)) >= self._threshold

    def _shingles(self, document: int) -> set[int]:
        return self._signed.shingles(int(self._documents[document]))


def _join_known(pool: Pool, number: np.ndarray, clusters: Clusters) -> None:
    """What an earlier step has put into one cluster stays in one."""
    known = pool.column(CORPUS, "cluster").combine_chunks().dictionary_encode().indices
    rows = np.flatnonzero(known.is_valid().to_numpy(zero_copy_only=False) & (number >= 0))
    first: dict[int, int] = {}
    for row, code in zip(rows.tolist(), known.take(pa.array(rows)).to_pylist(), strict=True):
        clusters.join(first.setdefault(code, int(number[row])), int(number[row]))


def _of_all(
    kept: np.ndarray,
    first: np.ndarray,
    unique: np.ndarray,
    number: np.ndarray,
    leader: np.ndarray,
    root: np.ndarray,
    full: int,
) -> Repeats:
    """From unique documents to all."""
    rows = np.flatnonzero(kept)
    own = number[first[rows]]  # the unique document with the text of each
    of, cluster = np.arange(len(kept)), np.full(len(kept), -1)
    of[rows] = unique[leader[own]]
    why = np.zeros(len(kept), np.int8)
    why[rows] = np.where(leader[own] != own, NEAR, np.where(first[rows] != rows, SAME_TEXT, KEPT))
    size = np.bincount(root[own], minlength=len(unique))
    cluster[rows] = np.where(size[root[own]] > 1, unique[root[own]], -1)
    return Repeats(of, why, cluster, np.array(full))
