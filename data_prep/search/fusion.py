"""Reciprocal rank fusion: one list of candidates from several searches whose scores do not compare."""

from collections.abc import Sequence

import numpy as np

from codiemb.errors import UserError
from codiemb.mining.candidates import Candidates, best_first

RANK_CONSTANT = 60  # of Cormack, Clarke and Buettcher, SIGIR 2009


def reciprocal_rank_fusion(
    searches: Sequence[Candidates], k: int, *, constant: int = RANK_CONSTANT
) -> Candidates:
    """The k best by the sum of 1 / (constant + rank), ranks from 1, over the searches that found a document.

    Nothing is added for a search that did not find it, and a query may have fewer than k candidates, or none.
    Equal sums come by document, ascending.

    Args:
        searches: of the same queries.
        k: how many candidates a query has at most.
        constant: the larger it is, the less the first ranks differ from later ones.

    Raises:
        UserError: the searches are not of the same queries.
    """
    if len({(search.first_query, len(search.count_Q)) for search in searches}) != 1:
        sizes = ", ".join(
            f"{len(search.count_Q)} queries from {search.first_query} on" for search in searches
        )
        raise UserError(f"searches of different queries cannot be fused: {sizes or 'there are none'}")
    queries = zip(*(search.rows() for search in searches), strict=True)
    rows = [_fused([documents for documents, _ in lists], k, constant) for lists in queries]
    return Candidates.of(rows, searches[0].first_query)


def _fused(lists: Sequence[np.ndarray], k: int, constant: int) -> tuple[np.ndarray, np.ndarray]:
    document_c, place_c = np.unique(np.concatenate(lists), return_inverse=True)
    shares = np.concatenate([1 / (constant + 1.0 + np.arange(len(documents))) for documents in lists])
    score_c = np.bincount(place_c, weights=shares, minlength=len(document_c)).astype(np.float32)
    return best_first(document_c, score_c, k)
