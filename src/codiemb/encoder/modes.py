"""How a model runs while texts are encoded: without dropout and, if asked for, in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

ENCODE_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # Lightning's names


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch dropout off for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextmanager
def encode_mode(module: nn.Module, precision: str) -> Iterator[None]:
    """`eval_mode`, in one of ENCODE_PRECISIONS; `32-true` leaves the weights' own."""
    with eval_mode(module):
        if precision == "32-true":
            yield
            return
        half = torch.float16 if precision == "16-mixed" else torch.bfloat16
        with torch.autocast(next(module.parameters()).device.type, half):
            yield
