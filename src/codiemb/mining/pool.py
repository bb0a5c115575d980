"""The texts that negatives are taken from: those of a source, each once, and which record has which."""

from typing import NamedTuple

import numpy as np

from codiemb.data.collator import content_hash
from codiemb.data.mined import PLACES, texts_at
from codiemb.data.records import Record, Text
from codiemb.data.source import Source

_BLOCK = 1_024  # records read together


class Pairs(NamedTuple):
    """Records and rows of the pool, by record."""

    record_P: np.ndarray
    row_P: np.ndarray


class Pool:
    """A source's distinct texts, by content hash, in the order in which they first stand in it.

    It reads all records once: about 100 bytes for each of their texts while it does, 16 for each distinct one
    and for each positive and negative after that. The texts stay in their Arrow files.

    Args:
        source: of IR records.

    Attributes:
        code_N: where each first stands, ascending: the record's number times 2^20, and the place in it
            (positives first).
        hash_N: content hashes.
        query_hash_R: of every record's query.
        positives: of every record.
        negatives: its own, in its order.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        codes, hashes, is_positive, queries = _all_texts(source)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        order = np.argsort(first)  # np.unique sorts by hash; here the first to stand is the first
        row_of_unique = np.empty_like(order)
        row_of_unique[order] = np.arange(len(order))
        row = row_of_unique[inverse]
        self.code_N, self.hash_N, self.query_hash_R = codes[first[order]], hashes[first[order]], queries
        self.positives = Pairs(codes[is_positive] // PLACES, row[is_positive])
        self.negatives = Pairs(codes[~is_positive] // PLACES, row[~is_positive])

    def __len__(self) -> int:
        return len(self.code_N)

    def rows(self, code_C: np.ndarray) -> np.ndarray:
        """Rows of the texts with these codes."""
        return np.searchsorted(self.code_N, code_C)

    def texts(self, start: int, stop: int) -> list[str]:
        """Those of some rows."""
        return [text for _, text in texts_at(self._source, self.code_N[start:stop])]


def _texts(record: Record) -> list[Text]:
    return [*record.positives, *record.negatives]


def _all_texts(source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Code, content hash and kind of every text, record by record; and every query's hash."""
    codes: list[int] = []
    hashes: list[int] = []
    is_positive: list[bool] = []
    queries: list[int] = []
    for start in range(0, len(source), _BLOCK):
        stop = min(start + _BLOCK, len(source))
        for number, record in enumerate(source.take(range(start, stop)), start):
            texts = _texts(record)
            codes += range(number * PLACES, number * PLACES + len(texts))
            hashes += [content_hash(text) for _, text in texts]
            is_positive += [place < len(record.positives) for place in range(len(texts))]
            queries.append(content_hash(record.query.text))
    code_T, hash_T, query_R = (np.array(values, dtype=np.int64) for values in (codes, hashes, queries))
    return code_T, hash_T, np.array(is_positive), query_R
