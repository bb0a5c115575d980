"""Gradient surgery: a control for the laboratory, where a step has one batch of each of two tasks."""

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from codiemb.errors import UserError

_BATCHES = 2


class GradientSurgery(pl.Callback):
    """Where the two batches' gradients point apart, each loses its part along the other: PCGrad.

    Yu et al. 2020, Gradient Surgery for Multi-Task Learning (arXiv:2001.06782), Algorithm 1, for two tasks,
    over the vector of all parameters. Needs `batches_per_step=2`, one process, and another copy of the
    gradient. Logs the cosine of the two, `train/surgery_cosine`; nothing is changed where it is positive.

    Raises:
        UserError: more than one process, or another number of batches a step.
    """

    def __init__(self) -> None:
        self._first: Float[Tensor, " n"] | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1 or trainer.accumulate_grad_batches != _BATCHES:
            raise UserError("GradientSurgery needs batches_per_step=2 and one process")

    @override
    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the first gradient and clear it, so that the second comes alone; then leave their sum."""
        parameters = [p for p in pl_module.parameters() if p.requires_grad]
        gradient = _taken(parameters)
        if self._first is None:
            self._first = gradient
            return
        first, self._first = self._first, None
        pl_module.log("train/surgery_cosine", torch.cosine_similarity(first, gradient, dim=0), batch_size=1)
        total = without_conflict(first, gradient)
        for parameter, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)


def without_conflict(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The sum, each without its projection on the other if their product is negative."""
    product = first @ second
    if product >= 0:
        return first + second
    return first * (1 - product / first.square().sum()) + second * (1 - product / second.square().sum())


def _taken(parameters: list[nn.Parameter]) -> Float[Tensor, " n"]:
    """All gradients in one vector, 0 where there is none; the parameters have none any more."""
    parts = []
    for parameter in parameters:
        parts.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return torch.cat([part.flatten() for part in parts])
