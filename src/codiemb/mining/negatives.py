"""Which negatives a source's records have after a search: the rules, on arrays."""

from typing import NamedTuple

import numpy as np

from codiemb.data.mined import NONE
from codiemb.mining.candidates import Candidates
from codiemb.mining.choose import pair_key
from codiemb.mining.known import KnownPairs
from codiemb.mining.limits import KEPT, REASONS
from codiemb.mining.pool import Pairs, Pool
from codiemb.mining.scores import Embeddings, pair_scores
from codiemb.mining.spec import RefreshSpec
from codiemb.mining.top_k import top_k_blocks
from codiemb.progress import Progress

_SAME_TEXT = REASONS.index("same text")


class Negatives(NamedTuple):
    """R records with at most K negatives each.

    Attributes:
        row_RK: rows of the pool; NONE where a record has fewer.
        first_RK: the score of each in the search that it came with, NaN where there is none.
    """

    row_RK: np.ndarray
    first_RK: np.ndarray

    @classmethod
    def none(cls, num_records: int, num_negatives: int) -> "Negatives":
        """Of no record yet."""
        shape = (num_records, num_negatives)
        return cls(np.full(shape, NONE, dtype=np.int64), np.full(shape, np.nan, dtype=np.float32))


def own(pool: Pool, query_RD: Embeddings, document_ND: Embeddings, num_negatives: int) -> Negatives:
    """The first negatives that each record has in its file, with their scores now."""
    record_P, row_P = pool.negatives
    place_P = np.arange(len(record_P)) - np.searchsorted(record_P, record_P)
    taken = place_P < num_negatives
    start = Negatives.none(len(query_RD), num_negatives)
    at = record_P[taken], place_P[taken]
    start.row_RK[at] = row_P[taken]
    start.first_RK[at] = pair_scores(query_RD, document_ND, record_P[taken], row_P[taken])
    return start


def mine(
    pool: Pool,
    known: KnownPairs,
    query_RD: Embeddings,
    document_ND: Embeddings,
    before: Negatives,
    spec: RefreshSpec,
    progress: Progress,
    device: str = "cpu",
) -> Negatives:
    """The negatives after a search: a function of the embeddings and of those before it.

    A candidate lies within the ranks and below the limit of `spec`, and answers no record of the same query:
    neither it nor an equal text. The best ones are taken, and nothing is filled up.

    Args:
        pool: of the source.
        known: hashes of a query, and of a text that answers it.
        query_RD: unit vectors of the records' queries.
        document_ND: of the pool.
        before: what they had.
        spec: the rule and its limits.
        progress: is told how many records are done.
        device: where matrix products run; it changes nothing.
    """
    stays_RK = _stays(before, query_RD, document_ND, spec)
    positive_R = lowest_positive(pool.positives, query_RD, document_ND)
    after = Negatives(before.row_RK.copy(), before.first_RK.copy())
    if spec.rule == "replace":
        after = Negatives.none(*before.row_RK.shape)
    k = min(spec.max_rank, len(document_ND))
    for found in top_k_blocks(query_RD, document_ND, k, device=device):
        block = _allowed(found, pool, known, positive_R, spec)
        if spec.rule == "conan":
            block = _without(block, before.row_RK)
        _fill(after, stays_RK, block)
        progress.advance(len(found.count_Q))
    return after


def lowest_positive(positives: Pairs, query_RD: Embeddings, document_ND: Embeddings) -> np.ndarray:
    """The score of each record's lowest positive."""
    score_R = np.full(len(query_RD), np.inf, dtype=np.float64)
    np.minimum.at(score_R, positives.record_P, pair_scores(query_RD, document_ND, *positives))
    return score_R


def _stays(before: Negatives, query_RD: Embeddings, document_ND: Embeddings, spec: RefreshSpec) -> np.ndarray:
    """Whether each negative stays: with `conan` one that is about as hard as it was at first."""
    stays_RK = np.zeros(before.row_RK.shape, dtype=bool)
    if spec.rule == "conan":
        record_P, slot_P = np.nonzero(before.row_RK != NONE)
        now_P = pair_scores(query_RD, document_ND, record_P, before.row_RK[record_P, slot_P])
        first_P = before.first_RK[record_P, slot_P]
        stays_RK[record_P, slot_P] = ~(now_P.astype(np.float64) * spec.factor < first_P)
    return stays_RK


class _Block(NamedTuple):
    """Candidates that may be negatives, by record, the best first."""

    record_F: np.ndarray
    row_F: np.ndarray
    score_F: np.ndarray


def _allowed(
    found: Candidates, pool: Pool, known: KnownPairs, positive_R: np.ndarray, spec: RefreshSpec
) -> _Block:
    record_C, row_C = found.query_C, found.document_C
    score_C = found.score_C.astype(np.float64)
    verdict_C = spec.limits().verdicts(found.rank_C + 1, score_C, positive_R[record_C])
    verdict_C[known.hold(pool.query_hash_R[record_C], pool.hash_N[row_C])] = _SAME_TEXT
    kept = verdict_C == KEPT
    return _Block(record_C[kept], row_C[kept], found.score_C[kept])


def _without(block: _Block, row_RK: np.ndarray) -> _Block:
    """Those that their record does not have already."""
    records = np.unique(block.record_F)
    has = pair_key(np.repeat(records, row_RK.shape[1]), row_RK[records].ravel())
    new = ~np.isin(pair_key(block.record_F, block.row_F), has)
    return _Block(*(values[new] for values in block))


def _fill(after: Negatives, stays_RK: np.ndarray, block: _Block) -> None:
    """The n-th candidate of a record takes the n-th place that is free; who finds none is left out."""
    nth_F = np.arange(len(block.record_F)) - np.searchsorted(block.record_F, block.record_F)
    num_free_R = (~stays_RK).sum(axis=1)
    taken = nth_F < num_free_R[block.record_F]
    record_F, nth_F = block.record_F[taken], nth_F[taken]
    records, in_block_F = np.unique(record_F, return_inverse=True)
    slot_F = np.argsort(stays_RK[records], axis=1, kind="stable")[in_block_F, nth_F]
    after.row_RK[record_F, slot_F] = block.row_F[taken]
    after.first_RK[record_F, slot_F] = block.score_F[taken]
