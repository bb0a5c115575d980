"""Rank, world size, and gathering rows over ranks with gradient and no factor of world size."""

import torch
import torch.distributed as dist
from jaxtyping import Num, Shaped
from torch import Tensor


def world_size() -> int:
    """Number of data-parallel ranks; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 outside torch.distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def row_counts(num_rows: int, device: torch.device) -> list[int]:
    """How many rows every rank holds, in rank order. One small collective."""
    if world_size() == 1:
        return [num_rows]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = num_rows
    dist.all_reduce(counts)
    return counts.tolist()


def gather_rows(rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
    """Concatenate every rank's rows in rank order; row counts may differ. Differentiable for floats.

    With DDP, FSDP or ZeRO averaging gradients over ranks, a loss that is the mean over its own rank's rows
    against gathered rows (or the same full-list loss on every rank) has exactly the gradient of one process
    on the global batch: the backward pass sums what all ranks say about a row, the strategy divides by W,
    so no factor of world size belongs in the loss.
    """
    if world_size() == 1:
        return rows
    counts = row_counts(rows.shape[0], rows.device)
    return _GatherRows.apply(rows, counts) if rows.is_floating_point() else _gather(rows, counts)


def sum_over_ranks(value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Elementwise sum over ranks, without gradient (counts and log values)."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def max_over_ranks(value: int, device: torch.device) -> int:
    """The largest of the ranks' numbers. One small collective."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def _gather(rows: Tensor, counts: list[int]) -> Tensor:
    """All ranks' rows; pads to the longest rank for the collective, then drops the padding."""
    longest = max(counts)
    # bool has no collective in gloo and NCCL; uint8 carries it
    wire = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
    padded = torch.zeros((longest, *rows.shape[1:]), dtype=wire.dtype, device=rows.device)
    padded[: rows.shape[0]] = wire
    out = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(out, padded)
    return torch.cat([part[:count] for part, count in zip(out, counts, strict=True)]).to(rows.dtype)


class _GatherRows(torch.autograd.Function):
    """all_gather whose backward sums the ranks' gradients and keeps this rank's slice."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts  # type: ignore[attr-defined]
        return _gather(rows, counts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        counts: list[int] = ctx.counts  # type: ignore[attr-defined]
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(counts[: rank()])
        return total[start : start + counts[rank()]], None
