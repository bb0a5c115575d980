"""Do the tasks' gradients pull apart? Their cosine, from a sample of each parameter's entries."""

import itertools
import logging
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from codiemb.batch import AnyBatch
from codiemb.metrics import cosine
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.due import Windows
from codiemb.training.strategies import kind_of

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """Entries of a parameter, and the factor that makes products of sampled gradients unbiased."""

    parameter: nn.Parameter
    entries: Int[Tensor, " _"]
    scale: float


class GradientCosine(pl.Callback):
    """Logs the cosine between the tasks' gradients, `train/gradient_cosine/<task>_<task>`: 0 is no conflict.

    Compares the last gradient taken of each task, one per window of `trainer.log_every_n_steps`, so a few
    steps apart. Gradients are those of a whole optimizer step: after accumulation and averaging over ranks,
    before clipping. Large parameters are sampled. Token embeddings are left out: their gradient lives on the
    few rows of the batch's words, so it tells which words two batches share, and no sample estimates it.
    A step with batches of several tasks (`batches_per_step`) has no gradient of one: nothing is logged.

    Args:
        entries_per_parameter: size of the sample of each parameter.
    """

    def __init__(self, entries_per_parameter: int = 4_096) -> None:
        self.entries_per_parameter = entries_per_parameter
        self._enabled = True
        self._task = ""
        self._windows = Windows()
        self._samples: list[Sample] = []
        self._last: dict[str, Float[Tensor, " n"]] = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        """Part of the checkpoint: the next gradient is compared with these."""
        return {"windows": self._windows.state_dict(), "last": dict(self._last)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._windows.load_state_dict(state_dict["windows"])
        self._last = dict(state_dict["last"])

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the sample. Sharded gradients can't be shown, nor those of a step of several tasks."""
        data = getattr(trainer, "datamodule", None)
        reason = None
        if kind_of(type(trainer.strategy)).shards_gradients:
            reason = f"{type(trainer.strategy).__name__} keeps gradients in shards"
        elif isinstance(data, EmbeddingDataModule) and data.batches_per_step > 1:
            reason = "a step has the gradients of several batches in one"
        self._enabled = reason is None
        if reason is not None:
            log.info("train/gradient_cosine is off: %s", reason)
            return
        self._samples = draw_samples(pl_module, self.entries_per_parameter)
        self._last = {task: gradient.to(pl_module.device) for task, gradient in self._last.items()}

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """All micro-batches of an optimizer step have the same task."""
        self._task = batch.task

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Copy the sample of this task's gradient; once every task has one of this window, compare."""
        if not self._enabled or not self._windows.due(self._task, trainer):
            return
        gradient = sampled_gradient(self._samples)
        if not gradient.isfinite().all():  # NonFiniteSteps stops at it, or drops the step
            return
        self._last[self._task] = gradient
        for first, second in itertools.combinations(sorted(self._last), 2):
            if self._task in (first, second):
                value = cosine(self._last[first], self._last[second])
                pl_module.log(f"train/gradient_cosine/{first}_{second}", value, batch_size=1)


def draw_samples(module: nn.Module, entries_per_parameter: int) -> list[Sample]:
    """The same random entries of each trained parameter at every call; all of a small one; no embeddings."""
    generator = torch.Generator().manual_seed(0)  # of our own: the global one belongs to training
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    samples = []
    for parameter in module.parameters():
        if not parameter.requires_grad or id(parameter) in tables:
            continue
        size, count = parameter.numel(), entries_per_parameter
        if size <= count:
            samples.append(Sample(parameter, torch.arange(size, device=parameter.device), 1.0))
        else:
            entries = torch.randint(size, (count,), generator=generator).to(parameter.device)
            samples.append(Sample(parameter, entries, (size / count) ** 0.5))
    return samples


def sampled_gradient(samples: list[Sample]) -> Float[Tensor, " n"]:
    """The gradient at these entries, fp32; 0 where a parameter has none."""
    parts = []
    for parameter, entries, scale in samples:
        if parameter.grad is None:
            parts.append(torch.zeros(len(entries), device=parameter.device))
        else:
            parts.append(parameter.grad.flatten()[entries].float() * scale)
    return torch.cat(parts)
