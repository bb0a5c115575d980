"""Exact top-k of inner products in blocks: no row of scores is ever whole.

The result is defined without blocks: the score of a pair is its inner product in float64, rounded to float32,
and the order is by score, then by document, ascending. It is reached in two passes. A matrix product finds a
shortlist; its rounding depends on the shapes of blocks, but is bounded (`products.py`). So whatever lies more
than two such errors below the k-th computed score is not among the best k, and the others, k and a few more,
are scored exactly. Block sizes, threads, devices and the numbers of the first pass cannot change the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from codiemb.errors import UserError
from codiemb.mining.candidates import Candidates, best_first
from codiemb.mining.products import Extent, Product, finite, greatest, products
from codiemb.mining.scores import Embeddings, exact_scores
from codiemb.mining.shortlist import Shortlist

Best = tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]  # documents and scores of a query


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
    search = _Search(documents, k, blocks.documents, torch.device(device))
    for start in range(first_query, len(queries), blocks.queries):
        with _full_precision():
            rows = search.block(queries[start : start + blocks.queries], start)
        yield Candidates.of(rows, start)


class _Search:
    """One corpus, searched for one block of queries after another."""

    def __init__(self, document_ND: Embeddings, k: int, step: int, device: torch.device) -> None:
        self.document_ND = document_ND
        self.k = k
        self.step = step
        self.device = device
        self.passes = [(product, greatest(product, document_ND, step)) for product in products(device)]

    def block(self, query_bD: Embeddings, start: int) -> list[Best]:
        """Documents and scores of each query."""
        best: dict[int, Best] = {}
        left_r = np.arange(len(query_bD))
        for product, longest in list(self.passes):
            query_rD = query_bD[left_r]
            extent = finite(product.extent(query_rD), start, "query")
            lists, floor_r = self._shortlists(query_rD, product, extent, longest)
            best |= {
                int(left_r[i]): self._exact(query_rD[i], documents)
                for i, documents in enumerate(lists)
                if documents is not None
            }
            too_short_r = np.array([documents is None for documents in lists])
            if too_short_r.mean() > 0.5 and len(self.passes) > 1:
                self.passes = self.passes[1:]  # these embeddings are too close for it
            left_r, floor_r = left_r[too_short_r], floor_r[too_short_r]
            if not len(left_r):
                break
        best |= self._ties(query_bD, left_r, floor_r)
        return [best[i] for i in range(len(query_bD))]

    def _shortlists(
        self, query_rD: Embeddings, product: Product, extent: Extent, longest: Extent
    ) -> tuple[list[Int64[np.ndarray, " c"] | None], Float32[np.ndarray, " r"]]:
        """Documents that may be among the best k, None where there was no room for all; and their floors."""
        size = min(product.room(self.k), len(self.document_ND))
        shortlist = Shortlist(len(query_rD), size, product.dtype, self.device)
        for start, score_rn in product.scores(query_rD, self.document_ND, self.step, self.device):
            shortlist.add(score_rn, start)
        score_rs, document_rs = shortlist.content()
        kth_r = np.partition(score_rs, -self.k, axis=1)[:, -self.k]
        floor_r = product.floor(kth_r, extent, longest, self.document_ND.shape[1])
        keep_rs = score_rs >= floor_r[:, None]
        # where all is kept, more may have been worth keeping
        is_whole_r = np.logical_or(~keep_rs.all(axis=1), size == len(self.document_ND))
        chosen = zip(document_rs, keep_rs, is_whole_r, strict=True)
        return [row[keep] if whole else None for row, keep, whole in chosen], floor_r

    def _exact(self, query_D: np.ndarray, document_c: Int64[np.ndarray, " c"]) -> Best:
        score_c = exact_scores(query_D.astype(np.float64), self.document_ND, document_c)
        return best_first(document_c, score_c, self.k)

    def _ties(
        self, query_bD: Embeddings, row_r: Int64[np.ndarray, " r"], floor_r: Float32[np.ndarray, " r"]
    ) -> dict[int, Best]:
        """Queries with more documents near the k-th score than a shortlist holds: copies, mostly.

        All that reach the floor of float32 are scored exactly, block by block: 0.4 us a document.
        """
        best: dict[int, Best] = {int(row): (np.empty(0, np.int64), np.empty(0, np.float32)) for row in row_r}
        if not best:
            return best
        product = self.passes[-1][0]
        for start, score_rn in product.scores(query_bD[row_r], self.document_ND, self.step, self.device):
            reaches_rn = score_rn.cpu().numpy() >= floor_r[:, None]
            for row, reaches_n in zip(row_r, reaches_rn, strict=True):
                old_document, old_score = best[int(row)]
                document, score = self._exact(query_bD[row], start + np.flatnonzero(reaches_n))
                joined = np.concatenate([old_document, document]), np.concatenate([old_score, score])
                best[int(row)] = best_first(*joined, self.k)
        return best


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
    """The error bound is that of float32: no TF32 or bf16 inside its products, whatever the user has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
