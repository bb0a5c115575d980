"""A sum of InfoNCE terms and its gradient, a chunk of rows at a time: memory chunk x K, never B x M."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus

Side = Literal["query", "document"]
Tables = dict[Side, Tensor]  # (rows, D) each: the embeddings, or their gradients


class NotNegatives(NamedTuple):
    """Which candidates of a chunk of rows (c) are no negatives: by rule; by rule or as false negatives."""

    excluded_cK: Bool[Tensor, "c K"]
    masked_cK: Bool[Tensor, "c K"]


class Block(NamedTuple):
    """R anchors, given by their places in one table, against all K rows of another or the same."""

    anchor: Side
    place_R: Int[Tensor, " R"]
    candidate: Side
    not_negatives: Callable[[slice], NotNegatives]  # called with the rows of a chunk, when it is computed


class Direction(NamedTuple):
    """R rows of logits, blocks side by side; all pairs that `row_P` maps to a row share its denominator."""

    blocks: list[Block]
    row_P: Int[Tensor, " P"]  # ascending
    times_positive: int = 1  # how often a pair itself counts in its denominator


class Pairs(NamedTuple):
    """The P (query, positive) pairs: their places in the tables, and what each counts in the sum."""

    query_P: Int[Tensor, " P"]
    positive_P: Int[Tensor, " P"]
    weight_P: Float[Tensor, " P"]


class Margins(NamedTuple):
    """How close to its positive a negative may come before it is taken for a false one."""

    absolute: float | None
    percent: float | None

    def ceiling(self, similarity_p: Float[Tensor, " p"]) -> Float[Tensor, " p"] | None:
        """The similarity above which a negative of each pair is masked.

        A share of a negative similarity lies above it and would let nearer negatives pass than the positive
        is: there the ceiling is as far below, (1 - percent) of the similarity's size.
        """
        ceilings = []
        if self.absolute is not None:
            ceilings.append(similarity_p - self.absolute)
        if self.percent is not None:
            share_p, distance_p = similarity_p * self.percent, similarity_p * (2 - self.percent)
            ceilings.append(torch.where(similarity_p < 0, distance_p, share_p))
        return torch.stack(ceilings).amin(dim=0) if ceilings else None


class Seen(NamedTuple):
    """What the computation saw, without gradient: of every pair, and over all rows."""

    loss_P: Float[Tensor, " P"]
    similarity_P: Float[Tensor, " P"]
    hardest_P: Float[Tensor, " P"]  # of the first block's nearest negative, margins aside; -inf without one
    num_eligible: Int[Tensor, ""]  # negatives by the rules
    num_kept: Int[Tensor, ""]  # of those, not masked as false negatives


class Contrast(NamedTuple):
    """sum over pairs p of weight_p x mean over directions of softplus(log sum_k exp(s_k / t) - s_p / t),

    where k runs over the negatives in the row of p, s is the dot product and t the temperature: softplus of
    that difference is -log of the positive's share of the softmax. Where a positive counts n times in its
    denominator, it is log n + softplus(difference - log n).

    Only `chunk_rows` rows of logits exist at a time. While a chunk's softmax is there, its gradient is added
    to one buffer per table, as fused linear cross-entropy kernels do; the backward pass scales the buffers by
    what comes from above. So a step costs the three matrix products of the direct computation, recomputes
    nothing, and holds one chunk beside embeddings and gradients: for 512 rows of 64k documents 128 MiB of
    fp32 logits and less of masks, where B x M would be 16 GiB. (An activation checkpoint around each chunk
    bounds memory too, but costs a fourth product and an M x D temporary a chunk: 1.85 times the direct time.)
    """

    pairs: Pairs
    directions: list[Direction]
    temperature: float
    margins: Margins
    chunk_rows: int

    def sum(self, tables: Tables) -> tuple[Float[Tensor, ""], Seen]:
        """The sum, differentiable once, and what was seen on the way in the first direction."""
        value, *seen = _Sum.apply(self, torch.is_grad_enabled(), tables["query"], tables["document"])
        return value, Seen(*seen)

    def run(self, tables: Tables, gradients: Tables | None) -> Seen:
        """Go through all chunks, adding to `gradients`; the loss of a pair is its mean over directions."""
        seen = [self._direction(direction, tables, gradients) for direction in self.directions]
        return seen[0]._replace(loss_P=torch.stack([each.loss_P for each in seen]).mean(dim=0))

    def _direction(self, direction: Direction, tables: Tables, gradients: Tables | None) -> Seen:
        """One direction, chunk by chunk.

        What outlives a chunk is written into buffers made beforehand. Small tensors kept from every chunk
        would lie between the chunks' large ones, and malloc could not give the next chunk the same memory
        again: at 32k rows that cost 700 MiB.
        """
        num_rows = len(direction.blocks[0].place_R)
        num_candidates = sum(len(tables[block.candidate]) for block in direction.blocks)
        buffer_CK = tables["query"].new_empty(min(self.chunk_rows, num_rows), num_candidates)
        seen = Seen(*tables["query"].new_empty(3, len(direction.row_P)), *direction.row_P.new_zeros(2))
        starts = range(0, num_rows, self.chunk_rows)
        row_ends = torch.tensor([*starts, num_rows], device=direction.row_P.device)
        pair_ends = torch.searchsorted(direction.row_P, row_ends).tolist()
        for start, *pairs in zip(starts, pair_ends[:-1], pair_ends[1:], strict=True):
            rows = slice(start, min(start + self.chunk_rows, num_rows))
            logit_cK = buffer_CK[: rows.stop - rows.start]
            self._chunk(direction, rows, slice(*pairs), logit_cK, tables, gradients, seen)
        return seen

    def _chunk(
        self,
        direction: Direction,
        rows: slice,
        pairs: slice,
        logit_cK: Float[Tensor, "c K"],
        tables: Tables,
        gradients: Tables | None,
        seen: Seen,
    ) -> None:
        """A chunk of rows and the pairs mapped to them; `logit_cK` is memory to work in."""
        query_p, positive_p, weight_p = (column[pairs] for column in self.pairs)
        query_pD, positive_pD = tables["query"][query_p], tables["document"][positive_p]
        # the positives' own logits, P numbers: gathering them from c x K would need the place of each
        similarity_p = (query_pD * positive_pD).sum(dim=1)
        row_p = direction.row_P[pairs] - rows.start
        ceiling_c = self.margins.ceiling(similarity_p)  # with margins, every pair has its own row
        largest_bc = self._fill(logit_cK, direction.blocks, rows, ceiling_c, tables, seen)
        # a row's largest logit is subtracted before exp: at temperature 0.02 logits reach 50, past half's exp
        max_c = largest_bc.amax(dim=0) if ceiling_c is None else logit_cK.amax(dim=1)
        # in place: a second c x K buffer would double what a chunk takes
        exp_cK = logit_cK.sub_(max_c[:, None]).exp_()
        sum_c = exp_cK.sum(dim=1)
        gap_p = (max_c + sum_c.log())[row_p] - similarity_p / self.temperature
        bias = math.log(direction.times_positive)
        if gradients is not None:
            # d sum / d (temperature x gap), and of a row that of its pairs together
            slope_p = weight_p * (gap_p - bias).sigmoid() / (self.temperature * len(self.directions))
            slope_c = torch.zeros_like(sum_c).index_add_(0, row_p, slope_p)
            gradients["query"].index_add_(0, query_p, positive_pD * -slope_p[:, None])
            gradients["document"].index_add_(0, positive_p, query_pD * -slope_p[:, None])
            _add_gradients(direction.blocks, rows, exp_cK, (slope_c / sum_c)[:, None], tables, gradients)
        has_none_c = largest_bc[0] == _filler(largest_bc)
        hardest_c = (largest_bc[0] * self.temperature).masked_fill(has_none_c, -torch.inf)
        seen.loss_P[pairs] = softplus(gap_p - bias) + bias
        seen.similarity_P[pairs] = similarity_p
        seen.hardest_P[pairs] = hardest_c[row_p]

    def _fill(
        self,
        logit_cK: Float[Tensor, "c K"],
        blocks: list[Block],
        rows: slice,
        ceiling_c: Float[Tensor, " c"] | None,
        tables: Tables,
        seen: Seen,
    ) -> Float[Tensor, "b c"]:
        """Compute a chunk's logits, fill in what is no negative, and count those that are.

        Returns:
            Each row's largest logit in each block, before a margin hides the negatives above it.
        """
        widths = [len(tables[block.candidate]) for block in blocks]
        largest = []
        for block, logit_ck in zip(blocks, logit_cK.split(widths, dim=1), strict=True):
            excluded_ck, masked_ck = block.not_negatives(rows)
            seen.num_eligible.add_(logit_ck.numel() - excluded_ck.count_nonzero())
            del excluded_ck
            anchor_cD = tables[block.anchor][block.place_R[rows]]
            # dividing c x D costs less than c x k, and the product is written where the chunk's buffer lies
            torch.mm(anchor_cD / self.temperature, tables[block.candidate].T, out=logit_ck)
            logit_ck.masked_fill_(masked_ck, _filler(logit_ck))
            largest.append(logit_ck.amax(dim=1))
            if ceiling_c is not None:
                masked_ck |= logit_ck > ceiling_c[:, None] / self.temperature
                logit_ck.masked_fill_(masked_ck, _filler(logit_ck))
            seen.num_kept.add_(logit_ck.numel() - masked_ck.count_nonzero())
        return torch.stack(largest)


def _filler(logits: Tensor) -> float:
    """The logit of no negative: finite, so that subtracting it from itself is 0 and not NaN."""
    return torch.finfo(logits.dtype).min


def _add_gradients(
    blocks: list[Block],
    rows: slice,
    exp_cK: Float[Tensor, "c K"],
    scale_c1: Float[Tensor, "c 1"],
    tables: Tables,
    gradients: Tables,
) -> None:
    """Of a chunk's rows, whose gradient with respect to the similarities is scale x exp.

    The scale is applied to the c x D side of each product. It is 0 for a row without negatives, whose exp is
    1 everywhere.
    """
    widths = [len(tables[block.candidate]) for block in blocks]
    for block, exp_ck in zip(blocks, exp_cK.split(widths, dim=1), strict=True):
        place_c = block.place_R[rows]
        gradients[block.anchor].index_add_(0, place_c, (exp_ck @ tables[block.candidate]) * scale_c1)
        gradients[block.candidate].addmm_(exp_ck.T, tables[block.anchor][place_c] * scale_c1)


class _Sum(torch.autograd.Function):
    """`Contrast.sum` as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch's context takes any attribute
        contrast: Contrast,
        with_gradient: bool,
        query_QD: Tensor,
        document_MD: Tensor,
    ) -> tuple[Tensor, ...]:
        tables: Tables = {"query": query_QD, "document": document_MD}
        ctx.contrast, ctx.gradients = contrast, _zeros_like(tables) if with_gradient else None
        ctx.save_for_backward(query_QD, document_MD)
        seen = contrast.run(tables, ctx.gradients)
        ctx.mark_non_differentiable(*seen)
        return contrast.pairs.weight_P @ seen.loss_P, *seen

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[None, None, Tensor, Tensor]:  # noqa: ANN401
        if torch.is_grad_enabled():  # that is, create_graph=True
            raise RuntimeError("InfoNCE has no second derivative: its gradient is computed without a graph")
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:  # a second backward pass through a retained graph: the first took the buffers
            query_QD, document_MD = ctx.saved_tensors
            tables: Tables = {"query": query_QD, "document": document_MD}
            gradients = _zeros_like(tables)
            ctx.contrast.run(tables, gradients)
        return None, None, gradients["query"].mul_(grad), gradients["document"].mul_(grad)


def _zeros_like(tables: Tables) -> Tables:
    return {side: torch.zeros_like(table) for side, table in tables.items()}
