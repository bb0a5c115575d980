"""BM25 over a corpus: bm25s's index and scores, with a faster sum and ties by document."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from codiemb.errors import UserError
from codiemb.lexical.without_jax import bm25s
from codiemb.lexical.words import bm25_tokens
from codiemb.mining.candidates import Candidates, best_first

K1, B = 1.5, 0.75  # as the baseline of codiemb.evaluation has them
_FREQUENT = 1 / 8  # of the documents: from here on a whole column is added faster than its postings


class Bm25Index:
    """The BM25 scores of every token in every document (Lucene's variant).

    Tokens are those of the evaluation's baseline: lower-case words, Chinese as characters and pairs. A
    document costs 8 bytes for each of its tokens. Tokens in an eighth of the documents or more are kept as
    whole columns as well, 4 bytes a document: at most 4 times the size of the postings that they double.

    Args:
        documents: their texts, title included where it counts.

    Raises:
        UserError: there are no documents.
    """

    def __init__(self, documents: Iterable[str]) -> None:
        vocabulary: dict[str, int] = {}
        # numbers, of which a token has one, take a sixth of the memory of its strings
        numbers = [
            [vocabulary.setdefault(token, len(vocabulary)) for token in bm25_tokens(text)]
            for text in documents
        ]
        if not numbers:
            raise UserError("there are no documents to search; the corpus is empty")
        self.vocabulary = vocabulary
        self.num_documents = len(numbers)
        self._starts = np.zeros(1, dtype=np.int64)
        if vocabulary:  # else no document has a token, and no query a candidate
            self._index(numbers)
        self._columns = self._frequent_columns()

    def top_k(self, queries: Sequence[str], k: int) -> Candidates:
        """At most k candidates of each query, all with a score above 0: what shares no token is none."""
        return Candidates.of([self._best(self.scores(query), k) for query in queries])

    def top_k_blocks(
        self, queries: Sequence[str], k: int, *, block: int = 1_024, first_query: int = 0
    ) -> Iterator[Candidates]:
        """The same, a block of queries at a time."""
        for start in range(first_query, len(queries), block):
            rows = [self._best(self.scores(query), k) for query in queries[start : start + block]]
            yield Candidates.of(rows, start)

    def scores(self, query: str) -> Float32[np.ndarray, " N"]:
        """The scores of all documents: those of `bm25s.BM25.get_scores`, bit by bit.

        A token counts as often as the query has it.
        """
        score_N = np.zeros(self.num_documents, dtype=np.float32)
        for token in bm25_tokens(query):
            number = self.vocabulary.get(token)
            if number is None:
                continue
            if number in self._columns:
                score_N += self._columns[number]
            else:
                part = slice(self._starts[number], self._starts[number + 1])
                np.add.at(score_N, self._documents[part], self._weights[part])
        return score_N

    def _index(self, numbers: list[list[int]]) -> None:
        model = bm25s.BM25(method="lucene", k1=K1, b=B)
        model.index((numbers, self.vocabulary), create_empty_token=False, show_progress=False)
        self._weights: np.ndarray = model.scores["data"]
        self._documents: np.ndarray = model.scores["indices"]
        self._starts = np.asarray(model.scores["indptr"], dtype=np.int64)

    def _frequent_columns(self) -> dict[int, Float32[np.ndarray, " N"]]:
        columns = {}
        for number in np.flatnonzero(np.diff(self._starts) >= _FREQUENT * self.num_documents):
            part = slice(self._starts[number], self._starts[number + 1])
            columns[int(number)] = np.zeros(self.num_documents, dtype=np.float32)
            columns[int(number)][self._documents[part]] = self._weights[part]
        return columns

    def _best(
        self, score_N: Float32[np.ndarray, " N"], k: int
    ) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
        document_c = np.flatnonzero((score_N > 0) & (score_N >= _floor(score_N, k)))
        return best_first(document_c, score_N[document_c], k)


def _floor(score_N: Float32[np.ndarray, " N"], k: int) -> float:
    """A score that k documents reach: each of 16 in turn has a best one, and so many of those do."""
    groups = len(score_N) // 16
    if groups < k:
        return 0.0
    best_g = score_N[: 16 * groups].reshape(16, groups).max(axis=0)
    return float(np.partition(best_g, groups - k)[groups - k])
