"""Judgements of what is repeated become judgements of what it repeats."""

from typing import NamedTuple

import numpy as np

from codiemb.mining.choose import pair_key
from data_prep.relations import Pairs

STAYS, MERGED, SAME_PAIR = 0, 1, 2
REASONS = (None, "merged", "same pair")


class Merged(NamedTuple):
    """What becomes of judgements.

    Attributes:
        verdict: of each: STAYS, MERGED (it is of something that is dropped), or SAME_PAIR (a better one
        stands
            for the pair).
        added: those that stand in the place of merged ones, by query and document.
    """

    verdict: np.ndarray
    added: Pairs


def merge(
    pairs: Pairs, live: np.ndarray, query_of: np.ndarray, document_of: np.ndarray, better: np.ndarray
) -> Merged:
    """Judge what is repeated as what it repeats; one judgement is left of each pair.

    Args:
        pairs: all judgements, by row numbers.
        live: which of them are kept, and speak of a query and of a document that were kept.
        query_of: the query that each query repeats, itself where it repeats none.
        document_of: likewise.
        better: of each judgement a number; of several of a pair the lowest stays, then the highest grade.
    """
    query, document = query_of[pairs.query], document_of[pairs.document]
    moved = (query != pairs.query) | (document != pairs.document)
    rows = np.flatnonzero(live)
    key = pair_key(query, document)
    rows = rows[np.lexsort((moved[rows], -pairs.value[rows], better[rows], key[rows]))]
    best = rows[np.flatnonzero(np.diff(key[rows], prepend=~key[rows[:1]]))]
    verdict = np.zeros(len(live), np.int8)
    verdict[rows] = np.where(moved[rows], MERGED, SAME_PAIR)
    verdict[best[~moved[best]]] = STAYS
    new = best[moved[best]]
    return Merged(verdict, Pairs(query[new], document[new], pairs.value[new]))
