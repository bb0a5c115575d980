"""The candidates of a block of queries with their verdicts: what was found, and what is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from codiemb.mining.candidates import Candidates
from codiemb.mining.choose import Choice, choose, pair_key
from codiemb.mining.limits import KEPT, POSITIVE, REASONS, Limits
from data_prep.layout import CANDIDATES, SCHEMAS
from data_prep.mining.known import Known
from data_prep.relations import Ids, Pairs

Reference = Literal["lowest", "highest"]
# rows of the tables of queries and documents -> a score for each pair
ScorePairs = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Taking:
    """How many of those that may be negatives are taken, and which."""

    count: int
    choice: Choice
    seed: int


class Scored(NamedTuple):
    """F pairs of a block, by query: best rank first, then positives that the search did not find."""

    query_F: np.ndarray
    document_F: np.ndarray
    rank_F: np.ndarray  # raw, from 1; 0 where it was not found
    score_F: np.ndarray


@dataclass(frozen=True)
class Judge:
    """Turns what a search has found into rows of `candidates/NAME.parquet`.

    Attributes:
        ids: of the source.
        known: its positives.
        limits: what a negative must satisfy.
        taking: how many are taken.
        reference: the positive that candidates are compared with: that of the lowest score (all positives are
            above the margin) or of the highest.
        score: of pairs; every candidate and positive gets its score from it.
        name: of the scorer.
    """

    ids: Ids
    known: Known
    limits: Limits
    taking: Taking
    reference: Reference
    score: ScorePairs
    name: str

    def table(self, found: Candidates, query_rows: np.ndarray, document_rows: np.ndarray) -> pa.Table:
        """Rows of the table for a block of queries.

        Args:
            found: by the search, whose queries and documents are numbered as they were searched.
            query_rows: rows of the source's table of queries, by those numbers.
            document_rows: likewise of documents.
        """
        queries = query_rows[found.first_query : found.first_query + len(found.count_Q)]
        positives = self.known.positives_of(queries)
        pairs = self._with_positives(
            query_rows[found.query_C], document_rows[found.document_C], found.rank_C + 1, positives
        )
        verdict_F = self.known.verdicts(pairs.query_F, pairs.document_F)
        limit_F = self._reference(pairs, verdict_F == POSITIVE)
        free = verdict_F == KEPT
        verdict_F[free] = self.limits.verdicts(pairs.rank_F[free], pairs.score_F[free], limit_F[free])
        taking = self.taking
        key_F = pair_key(pairs.query_F, pairs.document_F)
        verdict_F = choose(verdict_F, pairs.query_F, key_F, taking.count, taking.choice, taking.seed)
        return self._rows(pairs, verdict_F)

    def _with_positives(
        self, query_C: np.ndarray, document_C: np.ndarray, rank_C: np.ndarray, positives: Pairs
    ) -> Scored:
        """What was found, and the positives that were not; in the order of the queries."""
        missing = ~np.isin(pair_key(positives.query, positives.document), pair_key(query_C, document_C))
        query = np.concatenate([query_C, positives.query[missing]])
        document = np.concatenate([document_C, positives.document[missing]])
        rank = np.concatenate([rank_C, np.zeros(int(missing.sum()), dtype=np.int64)])
        order = np.argsort(query, kind="stable")
        query, document = query[order], document[order]
        return Scored(query, document, rank[order], self.score(query, document).astype(np.float64))

    def _reference(self, pairs: Scored, is_positive_F: np.ndarray) -> np.ndarray:
        """The positive's score that each candidate is compared with."""
        numbers, query_F = np.unique(pairs.query_F, return_inverse=True)
        lowest = self.reference == "lowest"
        limit = np.full(len(numbers), np.inf if lowest else -np.inf)
        reduce = np.minimum if lowest else np.maximum
        reduce.at(limit, query_F[is_positive_F], pairs.score_F[is_positive_F])
        return limit[query_F]

    def _rows(self, pairs: Scored, verdict_F: np.ndarray) -> pa.Table:
        dropped = verdict_F != KEPT
        reasons = pa.array([REASONS[code] or None for code in verdict_F.tolist()], pa.string())
        columns = {
            "query": self.ids.query.take(pa.array(pairs.query_F)),
            "document": self.ids.document.take(pa.array(pairs.document_F)),
            "rank": pa.array(pairs.rank_F, pa.int32(), mask=pairs.rank_F == 0),
            "score": pa.array(pairs.score_F),
            "scorer": pa.array([self.name] * len(verdict_F), pa.string()),
            "dropped_by": pa.array(np.where(dropped, "mine", ""), pa.string(), mask=~dropped),
            "reason": reasons,
        }
        return pa.table(columns, schema=SCHEMAS[CANDIDATES])
