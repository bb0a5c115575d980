"""The formula of FusionSpec on one tensor: weights from how far each checkpoint moved, then the weighted sum.

Shape letters beside those of batch.py: K checkpoints, R rows (first index), C entries of a row.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from codiemb.fusion.method import FusionSpec

_NORMS = {"l1": 1.0, "l2": 2.0, "max": math.inf}
_BLOCK_ENTRIES = 2**17  # float64 copies are made of so many entries at a time: 1 MiB, it stays in the cache


class TensorReport(NamedTuple):
    """What there is to tell about the fusion of one tensor, in float64."""

    num_entries: int
    weight_K: Float64[Tensor, " K"]  # mean over the entries
    squared_delta_K: Float64[Tensor, " K"]  # |theta_k - theta_0|^2
    delta_dot_origin_K: Float64[Tensor, " K"]  # <theta_k - theta_0, theta_0>
    squared_origin: float  # |theta_0|^2
    squared_change: float  # |sum_k w_k (theta_k - theta_0)|^2, before any scale


def delta_weights(size_KRC: Float64[Tensor, "K R C"], exponent: float) -> Float64[Tensor, "K R C"]:
    """size^exponent, normalised over the checkpoints, with its limits where a size is zero.

    Sizes are first divided by the one that decides (the largest, or for a negative exponent the smallest), so
    nothing overflows. Sizes equal to that one share the weight: all of them if all are zero.
    """
    decisive_1RC = size_KRC.amax(0, keepdim=True) if exponent >= 0 else size_KRC.amin(0, keepdim=True)
    ratio_KRC = size_KRC / decisive_1RC if exponent >= 0 else decisive_1RC / size_KRC
    share_KRC = torch.where(size_KRC == decisive_1RC, 1.0, ratio_KRC) ** abs(exponent)
    return share_KRC / share_KRC.sum(0, keepdim=True)


def fuse_tensor(
    spec: FusionSpec,
    origin: Tensor,
    thetas: Sequence[Tensor],
    scale: float = 1.0,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, TensorReport]:
    """Fuse one tensor, in float64.

    Args:
        spec: the method.
        origin: theta_0. A soup's result does not depend on it.
        thetas: the tensor of every checkpoint, all of one shape and dtype.
        scale: of this tensor (scale.tensor_scales).
        dtype: of the result; None takes the checkpoints'.
    """
    origin_RC, theta_K = _rows(origin), [_rows(theta) for theta in thetas]
    fused_RC = torch.empty_like(theta_K[0], dtype=dtype)
    fixed_K11 = _weights_of_the_whole(spec, origin_RC, theta_K)
    weight_K, squared_K, dot_K = torch.zeros(3, len(thetas), dtype=torch.float64)
    squared_origin = squared_change = 0.0
    for block in _blocks(origin_RC):
        start_RC = origin_RC[block].double()
        delta_KRC = torch.stack([theta_RC[block] for theta_RC in theta_K]).double() - start_RC
        weight_KRC = _weights_of_a_block(spec, delta_KRC) if fixed_K11 is None else fixed_K11
        change_RC = (weight_KRC * delta_KRC).sum(0)
        fused_RC[block] = (start_RC + scale * change_RC).to(fused_RC.dtype)
        weight_K += weight_KRC.expand_as(delta_KRC).sum((1, 2))
        squared_K += delta_KRC.square().sum((1, 2))
        dot_K += (delta_KRC * start_RC).sum((1, 2))
        squared_origin += float(start_RC.square().sum())
        squared_change += float(change_RC.square().sum())
    weight_K /= max(origin.numel(), 1)
    report = TensorReport(origin.numel(), weight_K, squared_K, dot_K, squared_origin, squared_change)
    return fused_RC.view(thetas[0].shape), report


def _weights_of_the_whole(
    spec: FusionSpec, origin_RC: Tensor, theta_K: list[Tensor]
) -> Float64[Tensor, "K 1 1"] | None:
    """One weight per checkpoint, where the method wants no finer ones."""
    if spec.method == "uniform":
        return torch.full((len(theta_K), 1, 1), 1 / len(theta_K), dtype=torch.float64)
    if spec.method == "weighted":
        weight_K = torch.tensor(spec.weights, dtype=torch.float64)
        return (weight_K / weight_K.sum())[:, None, None]
    if spec.granularity != "tensor":
        return None
    size_K = torch.stack([_size(spec, origin_RC, theta_RC) for theta_RC in theta_K])
    return delta_weights(size_K[:, None, None], spec.exponent)


def _size(spec: FusionSpec, origin_RC: Tensor, theta_RC: Tensor) -> Float64[Tensor, ""]:
    """|theta - origin| of a whole tensor: these norms of blocks make the norm of all."""
    norm = _NORMS[spec.norm]
    deltas = (theta_RC[block].double() - origin_RC[block].double() for block in _blocks(origin_RC))
    parts = [torch.linalg.vector_norm(delta_RC, norm) for delta_RC in deltas]
    return (
        torch.linalg.vector_norm(torch.stack(parts), norm) if parts else torch.zeros((), dtype=torch.float64)
    )


def _weights_of_a_block(
    spec: FusionSpec, delta_KRC: Float64[Tensor, "K R C"]
) -> Float64[Tensor, "K R C"] | Float64[Tensor, "K R 1"]:
    if spec.granularity == "element":
        return delta_weights(delta_KRC.abs(), spec.exponent)
    size_KR1 = torch.linalg.vector_norm(delta_KRC, _NORMS[spec.norm], dim=2, keepdim=True)
    return delta_weights(size_KR1, spec.exponent)


def _rows(tensor: Tensor) -> Tensor:
    """(R, C); a scalar is one row of one entry."""
    return tensor.reshape(tensor.shape[0] if tensor.ndim else 1, math.prod(tensor.shape[1:]))


def _blocks(tensor_RC: Tensor) -> Iterator[slice]:
    """Consecutive rows with about _BLOCK_ENTRIES entries together."""
    num_rows, num_columns = tensor_RC.shape
    step = max(1, _BLOCK_ENTRIES // max(num_columns, 1))
    yield from (slice(start, start + step) for start in range(0, num_rows, step) if num_columns)
