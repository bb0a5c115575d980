"""Which rows of a source are searched, and scores of their pairs: the search's own, or another model's."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow.compute as pc
import xxhash
from sentence_transformers import CrossEncoder

from data_prep.blocks import blocks
from data_prep.layout import QUERIES
from data_prep.mining.searchers import Searcher
from data_prep.search.encoders import Row
from data_prep.search.fingerprint import texts_hash
from data_prep.search.pair_scorer import cross_encoder_scores
from data_prep.texts import Texts


class DocumentRows(Sequence[Row]):
    """Documents without instruction, read when they are asked for.

    Args:
        texts: of all documents of the source.
        rows: those that are searched.
    """

    def __init__(self, texts: Texts, rows: np.ndarray) -> None:
        self._texts, self._rows = texts, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [("", text) for text in self._texts.take(self._rows[index])]
        return "", self._texts[int(self._rows[index])]


def query_rows(source: Path, rows: np.ndarray) -> list[Row]:
    """Instruction and text of some queries; in memory."""
    found: list[Row] = []
    first = 0
    for block in blocks(source / QUERIES, ["instruction", "text"]):
        inside = rows[(rows >= first) & (rows < first + len(block))] - first
        taken = block.take(inside)
        instructions = pc.fill_null(taken["instruction"], "").to_pylist()
        found += zip(instructions, taken["text"].to_pylist(), strict=True)
        first += len(block)
    return found


class SearchScores:
    """The searcher's scores, for row numbers of the source's tables.

    Args:
        searcher: of queries and documents numbered as they were given to it.
        query_rows: their rows in the source, in that order.
        document_rows: likewise.
    """

    def __init__(self, searcher: Searcher, query_rows: np.ndarray, document_rows: np.ndarray) -> None:
        self._searcher = searcher
        self._query_rows, self._document_rows = query_rows, document_rows

    def __call__(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """A score for each pair."""
        # both are ascending, and hold every row that is asked for
        queries = np.searchsorted(self._query_rows, query_P)
        return self._searcher.scores(queries, np.searchsorted(self._document_rows, document_P))


class CrossEncoderScores:
    """A cross-encoder's scores, kept in a cache by what they depend on.

    Args:
        model: with one score a pair.
        queries: texts by row number.
        texts: of the documents.
        cache: folder of all such scores.
    """

    def __init__(self, model: CrossEncoder, queries: dict[int, str], texts: Texts, cache: Path) -> None:
        self._model, self._queries, self._texts, self._cache = model, queries, texts, cache

    def __call__(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """A score for each pair."""
        queries = [self._queries[int(row)] for row in query_P]
        pairs = list(zip(queries, self._texts.take(document_P), strict=True))
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        folder = self._cache / f"cross-{xxhash.xxh3_64_hexdigest(texts_hash(pairs).encode())}"
        return cross_encoder_scores(folder, pairs, self._model, progress="cross-encoder")
