"""Tokens per second, waiting for data and peak memory."""

import resource
import sys
import time

import pytorch_lightning as pl
import torch
from typing_extensions import override

from codiemb.batch import AnyBatch
from codiemb.training.due import is_logged


class Speed(pl.Callback):
    """Logs tokens per second, the share of time spent waiting for data, and peak memory, all of this rank.

    Tokens are multiplied by the number of ranks, which have about as many. Every token is useful: the stream
    has no padding. Figures cover the steps since they were last logged.
    """

    def __init__(self) -> None:
        self._reset(time.perf_counter())
        self._batch_end = time.perf_counter()

    def _reset(self, now: float) -> None:
        self._since, self._tokens, self._waited = now, 0, 0.0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: building the model does not count."""
        self._batch_end = time.perf_counter()
        self._reset(self._batch_end)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """The time between two batches is waiting for data."""
        self._waited += time.perf_counter() - self._batch_end

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Count this batch's tokens; log where the loggers have a line."""
        self._tokens += len(batch.texts.input_ids_T) * trainer.world_size
        now = time.perf_counter()
        steps, part = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if part == 0 and is_logged(trainer, steps):
            seconds = now - self._since
            pl_module.log("perf/tokens_per_second", self._tokens / seconds, prog_bar=True, batch_size=1)
            pl_module.log("perf/data_wait", self._waited / seconds, batch_size=1)
            pl_module.log("perf/peak_memory_mib", peak_memory_mib(), batch_size=1)
            self._reset(now)
        self._batch_end = time.perf_counter()


def peak_memory_mib() -> float:
    """Peak memory of this process since its start: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
