"""What every loss returns, and the precision every loss computes in."""

import functools
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import NamedTuple, TypeGuard, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codiemb.batch import EmbeddedBatch

AnyLoss = TypeVar("AnyLoss", bound=nn.Module)


class LossOutput(NamedTuple):
    """A loss and what it wants logged.

    `value` is fp32 (float64 for float64 embeddings); its mean over ranks is the loss of the global batch.
    `logs` are detached scalars, of this rank or of all; their keys are the same on all ranks, so a logger may
    reduce them.
    """

    value: Float[Tensor, ""]
    logs: dict[str, Tensor]


def full_precision(
    forward: Callable[[AnyLoss, EmbeddedBatch], LossOutput],
) -> Callable[[AnyLoss, EmbeddedBatch], LossOutput]:
    """Run a loss outside autocast on embeddings of at least fp32.

    At temperature 0.02 bf16 logits cost 8 % of gradient error, bf16 embeddings with fp32 logits under 1 %.
    """

    @functools.wraps(forward)
    def wrapped(self: AnyLoss, batch: EmbeddedBatch) -> LossOutput:
        with torch.autocast(batch.query_BD.device.type, enabled=False):
            return forward(self, map_embeddings(batch, _at_least_fp32))

    return wrapped


def map_embeddings(batch: EmbeddedBatch, function: Callable[[Tensor], Tensor]) -> EmbeddedBatch:
    """The same batch with a function applied to every embedding it carries."""
    middle_query_BD, middle_document_ND = batch.middle_query_BD, batch.middle_document_ND
    return batch._replace(
        query_BD=function(batch.query_BD),
        document_ND=function(batch.document_ND),
        middle_query_BD=None if middle_query_BD is None else function(middle_query_BD),
        middle_document_ND=None if middle_document_ND is None else function(middle_document_ND),
    )


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a finite number; True, NaN and "1" are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def is_count(value: object) -> TypeGuard[int]:
    """Whether this is an integer of at least 1; 1.0 is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def is_weight(value: object) -> TypeGuard[float]:
    """Whether a term can have this weight: a finite number, not negative."""
    return is_number(value) and float(value) >= 0


# What a constructor is given comes from a config, whatever its annotations say. Each of these returns the
# value, or raises a ValueError that names the argument and the value.


def require_positive(name: str, value: object) -> float:
    """A finite number above 0."""
    if is_number(value) and value > 0:
        return float(value)
    raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def require_count(name: str, value: object) -> int:
    """An integer of at least 1."""
    if is_count(value):
        return int(value)
    raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def require_flag(name: str, value: object) -> bool:
    """True or False, and nothing that is merely taken for one."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} must be true or false, got {value!r}")


def require_loss(name: str, value: object) -> nn.Module:
    """A module."""
    if isinstance(value, nn.Module):
        return value
    raise ValueError(f"{name} must be a loss, a node with a _target_, got {value!r}")


def require_weights(weights: Mapping[str, object]) -> dict[str, float]:
    """Finite numbers, none negative, at least one above 0."""
    for name, weight in weights.items():
        if not is_weight(weight):
            raise ValueError(f"the weight of {name} must be finite and not negative, got {weight!r}")
    if not any(weights.values()):
        raise ValueError(f"at least one term with a weight above 0 is needed, got {dict(weights)}")
    return {name: float(weight) for name, weight in weights.items() if is_weight(weight)}


def _at_least_fp32(embedding: Tensor) -> Tensor:
    return embedding.to(torch.promote_types(embedding.dtype, torch.float32))
