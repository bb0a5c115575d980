"""What a search returns: the candidates of each query, best first, as many as it has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True)
class Candidates:
    """Candidates of Q queries, one query after the other; ragged: nothing stands in for a missing one.

    Within a query: higher scores first, equal scores by document, ascending.

    Attributes:
        first_query: number of the first query, where this is one block of a longer search.
        count_Q: how many candidates each query has.
        document_C: rows of the corpus.
        score_C: their scores.
    """

    first_query: int
    count_Q: Int64[np.ndarray, " Q"]
    document_C: Int64[np.ndarray, " C"]
    score_C: Float32[np.ndarray, " C"]

    @property
    def query_C(self) -> Int64[np.ndarray, " C"]:
        """The query of each candidate."""
        return self.first_query + np.repeat(np.arange(len(self.count_Q)), self.count_Q)

    @property
    def rank_C(self) -> Int64[np.ndarray, " C"]:
        """The place of each candidate in its query's list, from 0: the raw rank."""
        starts_Q = np.cumsum(self.count_Q) - self.count_Q
        return np.arange(len(self.document_C)) - np.repeat(starts_Q, self.count_Q)

    def rows(self) -> list[tuple[Int64[np.ndarray, " _"], Float32[np.ndarray, " _"]]]:
        """Documents and scores of each query."""
        ends = np.cumsum(self.count_Q)
        parts = map(slice, ends - self.count_Q, ends)
        return [(self.document_C[part], self.score_C[part]) for part in parts]

    def ranks_of(
        self, query_P: Int64[np.ndarray, " P"], document_P: Int64[np.ndarray, " P"]
    ) -> Int64[np.ndarray, " P"]:
        """The raw rank of given documents, known positives for example; -1 outside the window.

        Args:
            query_P: numbers of queries; those outside this block have rank -1.
            document_P: rows of the corpus.
        """
        stride = 1 + max(int(self.document_C.max(initial=0)), int(document_P.max(initial=0)))
        key_C, key_P = self.query_C * stride + self.document_C, query_P * stride + document_P
        order_C = np.argsort(key_C)
        place_P = np.searchsorted(key_C, key_P, sorter=order_C)
        # one more at the end, that nothing equals: where all keys are smaller
        rank_C1 = np.append(self.rank_C[order_C], -1)
        sorted_C1 = np.append(key_C[order_C], -1)
        return np.where(sorted_C1[place_P] == key_P, rank_C1[place_P], -1)

    @classmethod
    def of(
        cls, rows: Sequence[tuple[Int64[np.ndarray, " _"], Float32[np.ndarray, " _"]]], first_query: int = 0
    ) -> "Candidates":
        """From the documents and scores of each query."""
        return cls(
            first_query,
            np.array([len(documents) for documents, _ in rows], dtype=np.int64),
            np.concatenate([np.empty(0, np.int64), *(documents for documents, _ in rows)]),
            np.concatenate([np.empty(0, np.float32), *(scores for _, scores in rows)]),
        )

    @classmethod
    def joined(cls, blocks: Sequence["Candidates"]) -> "Candidates":
        """Consecutive blocks of a search as one."""
        return cls(
            blocks[0].first_query if blocks else 0,
            np.concatenate([np.empty(0, np.int64), *(block.count_Q for block in blocks)]),
            np.concatenate([np.empty(0, np.int64), *(block.document_C for block in blocks)]),
            np.concatenate([np.empty(0, np.float32), *(block.score_C for block in blocks)]),
        )


def best_first(
    document_c: Int64[np.ndarray, " c"], score_c: Float32[np.ndarray, " c"], k: int
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """The best k of one query: higher scores first, equal scores by document, ascending."""
    order_k = np.lexsort((document_c, -score_c))[:k]
    return document_c[order_k], score_c[order_k]
