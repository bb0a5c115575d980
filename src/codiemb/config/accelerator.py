"""Which kind of device a run takes: one rule for training, evaluations and fusions."""

import torch

from codiemb.errors import UserError


def accelerator(wanted: str = "auto") -> str:
    """`trainer.accelerator` as Lightning and torch name it: CUDA where there is a card, else the CPU.

    Lightning's own `auto` would take an Apple GPU first.

    Raises:
        UserError: mps was asked for, or a card where torch sees none.
    """
    if wanted == "mps":
        raise UserError("trainer.accelerator=mps: torch has no segment_reduce for it, which pools; use cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("gpu", "cuda"):
        return wanted
    if not torch.cuda.is_available():
        raise UserError(f"trainer.accelerator={wanted}: torch sees no CUDA device here; use auto or cpu")
    return "cuda"
