"""Exact top-k of inner products in blocks: no row of scores is ever whole.

The result is defined without blocks: the score of a pair is its inner product in float64, rounded to float32,
and the order is by score, then by document, ascending. It is reached in two passes. A matrix product in
float32 finds a shortlist; its rounding depends on the shapes of blocks, but is bounded (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1):

    |computed - exact| <= g |query| |document|,    g = D u / (1 - D u),    u = 2^-24.

So whatever lies more than two such errors, and the rounding at the end, below the k-th computed score is
not among the best k; the few others (about k and one more) are scored exactly. Block sizes, threads and
devices cannot change the result.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from codiemb.errors import UserError
from data_prep.search.candidates import Candidates, best_first
from data_prep.search.scores import Embeddings, exact_scores, lengths
from data_prep.search.shortlist import Shortlist


@dataclass(frozen=True)
class Blocks:
    """How many queries and documents are scored at a time: 5 bytes for each pair of them, mask included."""

    queries: int = 1_024
    documents: int = 8_192


def top_k(
    query_QD: Embeddings,
    document_ND: Embeddings,
    k: int,
    *,
    blocks: Blocks | None = None,
    device: str = "cpu",
) -> Candidates:
    """The k best documents of every query, in memory: 12 bytes a candidate. `top_k_blocks` explains."""
    found = list(top_k_blocks(query_QD, document_ND, k, blocks=blocks, device=device))
    return Candidates.joined(found)


def top_k_blocks(
    query_QD: Embeddings,
    document_ND: Embeddings,
    k: int,
    *,
    blocks: Blocks | None = None,
    device: str = "cpu",
    first_query: int = 0,
) -> Iterator[Candidates]:
    """The k best documents of every query, a block of queries at a time.

    Memory beyond the embeddings depends on the blocks, D and k only. Nothing is left out, not even the
    query's own text or its positives: ranks are raw.

    Args:
        query_QD: embeddings of the queries, float32 or float16; memory-mapped ones stay on disk.
        document_ND: of the documents.
        k: how many, at most N.
        blocks: sizes of blocks; by default 1,024 x 8,192.
        device: where matrix products run.
        first_query: start here; blocks before it are there already.

    Raises:
        UserError: k does not fit the corpus, the widths differ, or an embedding is not finite.
    """
    queries, documents = np.asarray(query_QD), np.asarray(document_ND)
    _check(queries, documents, k)
    blocks = blocks or Blocks()
    longest = _longest(documents, blocks.documents)
    search = _Search(documents, k, blocks.documents, longest, torch.device(device))
    for start in range(first_query, len(queries), blocks.queries):
        query_bD = queries[start : start + blocks.queries]
        length_b = _finite_lengths(query_bD, start, "query")
        with _full_precision():
            rows = search.block(query_bD, length_b)
        yield Candidates.of(rows, start)


class _Search:
    """One corpus, searched for one block of queries after another."""

    def __init__(
        self, document_ND: Embeddings, k: int, step: int, longest: float, device: torch.device
    ) -> None:
        self.document_ND = document_ND
        self.k = k
        self.step = step
        self.longest = longest
        self.device = device

    def block(
        self, query_bD: Embeddings, length_b: Float64[np.ndarray, " b"]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Documents and scores of each query."""
        shortlist = Shortlist(len(query_bD), self._shortlist_size(), self.device)
        for start, score_bn in self._scores(query_bD):
            shortlist.add(score_bn, start)
        score_bs, document_bs = shortlist.score_bs.cpu().numpy(), shortlist.document_bs.cpu().numpy()
        kth_b = np.partition(score_bs, -self.k, axis=1)[:, -self.k]
        floor_b = _below(kth_b, self._margin() * length_b * self.longest)
        keep_bs = score_bs >= floor_b[:, None]
        # where all is kept, more may have been worth keeping
        is_whole_b = ~keep_bs.all(axis=1) | (score_bs.shape[1] == len(self.document_ND))
        rows = {
            int(i): self._exact(query_bD[i], document_bs[i][keep_bs[i]]) for i in np.flatnonzero(is_whole_b)
        }
        rows |= self._ties(query_bD, np.flatnonzero(~is_whole_b), floor_b)
        return [rows[i] for i in range(len(query_bD))]

    def _shortlist_size(self) -> int:
        """Room for k and for what is too close to the k-th; too little only costs time (`_ties`)."""
        return min(self.k + 16 + self.k // 8, len(self.document_ND))

    def _margin(self) -> float:
        """How far below the k-th computed score one of the best k can be, at length 1: 2 g + 2 u."""
        unit = 2.0**-24
        width = self.document_ND.shape[1]
        return 2 * width * unit / (1 - width * unit) + 2 * unit

    def _scores(self, query_bD: Embeddings) -> Iterator[tuple[int, Float32[Tensor, "b n"]]]:
        """Rounded scores of a block of documents after the other; each overwrites the one before."""
        query = _tensor(query_bD, self.device)
        width = min(self.step, len(self.document_ND))
        buffer = torch.empty(len(query) * width, device=self.device)
        for start in range(0, len(self.document_ND), self.step):
            document_nD = _tensor(self.document_ND[start : start + self.step], self.device)
            out_bn = buffer[: len(query) * len(document_nD)].view(len(query), len(document_nD))
            yield start, torch.mm(query, document_nD.T, out=out_bn)

    def _exact(
        self, query_D: np.ndarray, document_c: Int64[np.ndarray, " c"]
    ) -> tuple[np.ndarray, np.ndarray]:
        score_c = exact_scores(query_D.astype(np.float64), self.document_ND, document_c)
        return best_first(document_c, score_c, self.k)

    def _ties(
        self, query_bD: Embeddings, row_r: Int64[np.ndarray, " r"], floor_b: Float32[np.ndarray, " b"]
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Queries with more documents near the k-th score than a shortlist holds: copies, mostly.

        All that reach the floor are scored exactly, block by block: up to some 20 us a document and query.
        """
        best = {int(row): (np.empty(0, np.int64), np.empty(0, np.float32)) for row in row_r}
        if not best:
            return best
        for start, score_rn in self._scores(query_bD[row_r]):
            reaches_rn = score_rn.cpu().numpy() >= floor_b[row_r, None]
            for row, reaches_n in zip(row_r, reaches_rn, strict=True):
                old_document, old_score = best[int(row)]
                document, score = self._exact(query_bD[row], start + np.flatnonzero(reaches_n))
                joined = np.concatenate([old_document, document]), np.concatenate([old_score, score])
                best[int(row)] = best_first(*joined, self.k)
        return best


def _tensor(embedding_nD: Embeddings, device: torch.device) -> Float32[Tensor, "n D"]:
    """A block in float32 on the device; without a copy where it is that already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
        return torch.from_numpy(np.ascontiguousarray(embedding_nD)).to(device, torch.float32)


def _below(
    kth_b: Float32[np.ndarray, " b"], margin_b: Float64[np.ndarray, " b"]
) -> Float32[np.ndarray, " b"]:
    """The difference, rounded down."""
    return np.nextafter((kth_b - margin_b).astype(np.float32), np.float32(-np.inf))


def _longest(document_ND: Embeddings, step: int) -> float:
    """The greatest length of a document's embedding."""
    starts = range(0, len(document_ND), step)
    return max(
        float(_finite_lengths(document_ND[start : start + step], start, "document").max()) for start in starts
    )


def _finite_lengths(embedding_nD: Embeddings, start: int, what: str) -> Float64[np.ndarray, " n"]:
    length_n = lengths(embedding_nD)
    if bad := [start + int(i) for i in np.flatnonzero(~np.isfinite(length_n))[:20]]:
        raise UserError(
            f"the {what} embeddings in rows {', '.join(map(str, bad))} hold NaN or infinity; "
            "check the weights (did training diverge?) and the precision, and encode again"
        )
    return length_n


def _check(query_QD: np.ndarray, document_ND: np.ndarray, k: int) -> None:
    if query_QD.ndim != 2 or document_ND.ndim != 2 or query_QD.shape[1] != document_ND.shape[1]:
        raise UserError(
            f"query embeddings of shape {query_QD.shape} do not fit document embeddings of shape "
            f"{document_ND.shape}: encode both with one model"
        )
    if not 1 <= k <= len(document_ND):
        raise UserError(
            f"k={k} documents a query are asked for, of a corpus of {len(document_ND):,}; "
            f"take 1 to {len(document_ND):,}"
        )


@contextmanager
def _full_precision() -> Iterator[None]:
    """The error bound is that of float32: no TF32 or bf16 inside a product, whatever the user has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
