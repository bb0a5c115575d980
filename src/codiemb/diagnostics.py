"""Lightning callbacks that watch training without touching it: embedding statistics, gradient conflict."""

import functools
import itertools
import logging
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from codiemb.batch import AnyBatch, EmbeddedBatch
from codiemb.metrics import cosine, embedding_statistics
from codiemb.module import EmbeddingModule

log = logging.getLogger(__name__)


class Windows:
    """Is it this task's turn? Once in every window of `trainer.log_every_n_steps`, at its first chance."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        """Part of the callback's state: a resumed run looks no more often than an uninterrupted one."""
        return dict(self._last)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on in the same window."""
        self._last = dict(state_dict)

    def due(self, task: str, trainer: pl.Trainer) -> bool:
        """True the first time that the task asks in the window of the present optimizer step."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every == 0:  # off
            return False
        window = trainer.global_step // every
        if self._last.get(task) == window:
            return False
        self._last[task] = window
        return True


class EmbeddingStatistics(pl.Callback):
    """Logs alignment, uniformity and effective rank of each task's batches.

    Looks at one batch per task and window of `trainer.log_every_n_steps`, at what the loss of that task
    sees, hence at this rank's embeddings (the loggers show rank 0's). A task whose loss sees no embeddings
    is passed over.

    Args:
        max_texts: documents of a batch that uniformity and effective rank are computed from.
    """

    def __init__(self, max_texts: int = 256) -> None:
        self.max_texts = max_texts
        self._windows = Windows()
        self._hooks: list[RemovableHandle] = []

    def state_dict(self) -> dict[str, Any]:
        """Part of the checkpoint."""
        return self._windows.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the same window."""
        self._windows.load_state_dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A hook on each loss: it leaves the module's code and the strategy's wrapping alone."""
        assert isinstance(pl_module, EmbeddingModule)
        for task, loss in pl_module.losses.items():
            look = functools.partial(self._look, trainer, pl_module, task)
            self._hooks.append(loss.register_forward_hook(look))

    def _look(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        task: str,
        loss: nn.Module,
        inputs: tuple[Any, ...],
        output: object,
    ) -> None:
        batch = inputs[0]
        if not isinstance(batch, EmbeddedBatch):
            return
        if self._windows.due(task, trainer):
            for name, value in embedding_statistics(batch, self.max_texts).items():
                pl_module.log(f"train/{name}/{task}", value, batch_size=1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the module as it was."""
        self._unhook()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Likewise."""
        self._unhook()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


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

    def state_dict(self) -> dict[str, Any]:
        """Part of the checkpoint: the next gradient is compared with these."""
        return {"windows": self._windows.state_dict(), "last": dict(self._last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing."""
        self._windows.load_state_dict(state_dict["windows"])
        self._last = dict(state_dict["last"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the sample; a strategy that shards gradients has none to show."""
        self._enabled = not is_sharded(trainer)
        if not self._enabled:
            name = type(trainer.strategy).__name__
            log.info("train/gradient_cosine is off: %s keeps gradients in shards", name)
            return
        self._samples = draw_samples(pl_module, self.entries_per_parameter)
        self._last = {task: gradient.to(pl_module.device) for task, gradient in self._last.items()}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """All micro-batches of an optimizer step have the same task."""
        self._task = batch.task

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


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether a rank holds but a part of the weights or gradients."""
    return isinstance(trainer.strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy)


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
