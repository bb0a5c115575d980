"""Learning-rate schedules by name, from transformers."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler


def learning_rate_schedule(
    optimizer: Optimizer, num_steps: int, *, name: str = "linear", warmup_ratio: float | int = 0.03
) -> LRScheduler:
    """Warm up over a share of the run, then follow `name` (linear, cosine, constant_with_warmup, ...).

    Published: linear with 3 % warm-up (docs/method.md section 6).

    Args:
        optimizer: whose rates it changes.
        num_steps: optimizer steps of the run.
        name: of transformers' schedules.
        warmup_ratio: share of the run in which the rate rises from 0 to its peak.
    """
    return get_scheduler(
        name, optimizer, num_warmup_steps=round(warmup_ratio * num_steps), num_training_steps=num_steps
    )
