"""Embedding statistics of the batches that a run trains on: it watches and touches nothing."""

import functools
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from codiemb.batch import EmbeddedBatch
from codiemb.metrics import embedding_statistics
from codiemb.training.due import Windows
from codiemb.training.module import EmbeddingModule


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

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._windows.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._windows.load_state_dict(state_dict)

    @override
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

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._unhook()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._unhook()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
