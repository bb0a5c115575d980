"""What a researcher chose about a fusion, and the refusal of impossible choices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from codiemb.errors import UserError

_CHOICES = {
    "method": ("delta", "uniform", "weighted"),
    "granularity": ("tensor", "row", "element"),
    "norm": ("l1", "l2", "max"),
}


@dataclass
class FusionSpec:
    """How checkpoints become one (docs/method.md section 7: nothing published has a formula, this is ours).

    theta* = theta_0 + s sum_k w_k (theta_k - theta_0), with w_k >= 0 and sum_k w_k = 1 for every entry. One
    checkpoint has w = 1: what is left is s, an average with the start (as WiSE-FT, arXiv 2109.01903).

    Attributes:
        method: `delta` takes w_k = |delta_k|^exponent / sum_j |delta_j|^exponent, where delta_k is checkpoint
            k's deviation from the base; `uniform` (a model soup) w_k = 1 / K; `weighted` takes `weights`.
        exponent: of `delta`. Positive: the checkpoint that moved a parameter most decides it; 0: the uniform
            soup; negative: the opposite, and one checkpoint that did not move it keeps it at the base; inf
            and -inf: the one that moved it most, or least, decides alone.
        granularity: what `delta` weighs as one: a whole tensor, a row (all entries of one first index: an
            output neuron's weights, its bias entry, a token's embedding) or every element.
        norm: `l1`, `l2` or `max`, of a tensor's or a row's delta.
        weights: of `weighted`, one per checkpoint; only their ratios count.
        scale: s in 0..1: how much of the way from the base is kept; below 1 it needs a base.
        scale_exponent: makes s a tensor's own: scale^((r_t / r)^scale_exponent), where r_t is the root mean
            square of that tensor's change sum_k w_k delta_k, and r that of all tensors. 0: one scale for all;
            positive: what moved far is taken back most; negative: what moved little is.
    """

    method: str = "delta"
    exponent: float = 1.0
    granularity: str = "row"
    norm: str = "l2"
    weights: list[float] = field(default_factory=list)
    scale: float = 1.0
    scale_exponent: float = 0.0


def check_fusion(spec: FusionSpec, checkpoints: Sequence[object], base: object | None) -> None:
    """Refuse what can be seen without opening a folder.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    for key, choices in _CHOICES.items():
        if getattr(spec, key) not in choices:
            raise UserError(f"fuse.{key}={getattr(spec, key)!r} is none of {', '.join(choices)}")
    _check_number(checkpoints, base)
    if math.isnan(spec.exponent):
        raise UserError(f"fuse.exponent={spec.exponent} must be a number; inf and -inf are allowed")
    if spec.method == "delta" and base is None:
        raise UserError(
            "fuse.method=delta measures how far each checkpoint moved: set fuse.base=FOLDER, the model that "
            "all of them were trained from; without one: fuse.method=uniform"
        )
    if spec.method == "weighted":
        _check_weights(spec.weights, len(checkpoints))
    _check_scale(spec, base)


def _check_number(checkpoints: Sequence[object], base: object | None) -> None:
    if not checkpoints:
        raise UserError("fuse.checkpoints=[a,b,...] needs at least one folder; there is none")
    if len(checkpoints) == 1 and base is None:
        raise UserError(
            f"fuse.checkpoints=[{checkpoints[0]}] is one folder: set fuse.base=FOLDER, the model that it was "
            "trained from, and fuse.scale=0.5 averages the two; or give several"
        )


def _check_scale(spec: FusionSpec, base: object | None) -> None:
    if not 0 <= spec.scale <= 1:
        raise UserError(f"fuse.scale={spec.scale} must lie in 0..1: 0 is the base, 1 all of the change")
    if not math.isfinite(spec.scale_exponent):
        raise UserError(f"fuse.scale_exponent={spec.scale_exponent} must be a finite number")
    if spec.scale < 1 and base is None:
        raise UserError(
            f"fuse.scale={spec.scale} is a share of the way from the base: set fuse.base=FOLDER, the model "
            "that all checkpoints were trained from"
        )


def _check_weights(weights: list[float], num_checkpoints: int) -> None:
    if len(weights) != num_checkpoints:
        raise UserError(
            f"fuse.weights={weights} must have one number for each of {num_checkpoints} checkpoints"
        )
    if not all(0 <= weight < math.inf for weight in weights) or sum(weights) <= 0:
        raise UserError(f"fuse.weights={weights} must be finite numbers >= 0, not all of them 0")
