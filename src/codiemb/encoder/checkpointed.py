"""Calls whose activations are made again in the backward pass: memory is that of one call."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def checkpointed(function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> list[Result]:
    """The results of all calls, each but the last in an activation checkpoint.

    The backward pass begins with the last call and would recompute at once what that could have kept. So n
    chunks cost (n - 1) / n of a forward pass more, and a batch that fits into one costs nothing more.
    """
    *recomputed, last = arguments
    return [checkpoint(function, *each, use_reentrant=False) for each in recomputed] + [function(*last)]
