"""Lightning callbacks: speed and memory, a plain progress bar, and the end of all ranks when one dies."""

import logging
import resource
import sys
import time
from secrets import token_hex
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar

from codiemb.batch import AnyBatch
from codiemb.cpu_memory import keep_freed_memory
from codiemb.module import is_logged
from codiemb.rank_watch import RankWatch, accept, call, listen

log = logging.getLogger(__name__)


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

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: building the model does not count."""
        self._batch_end = time.perf_counter()
        self._reset(self._batch_end)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """The time between two batches is waiting for data."""
        self._waited += time.perf_counter() - self._batch_end

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


class KeepFreedMemory(pl.Callback):
    """Where the model trains on CPU, keeps freed memory in the process, which saves a fifth of a step."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before the first step; it holds until the process ends."""
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the loss per task, tokens per second and the time left; names without prefixes."""

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: ANN401  Lightning's signature
        """A continued run starts in mid-epoch, where Lightning's bar knows no total."""
        super().on_train_start(trainer, *args)
        bar, done = self.train_progress_bar, trainer.fit_loop.epoch_loop.batch_progress.current.completed
        bar.total, bar.initial, bar.n = int(self.total_train_batches), done, done

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Short names, so that the bar fits a line."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        short = {"perf/tokens_per_second": "tok/s"}
        return {short.get(name, name.removeprefix("train/")): value for name, value in metrics.items()}


class StopTogether(pl.Callback):
    """When one rank dies or fails, the others name it and stop, instead of waiting in a collective.

    Args:
        timeout: seconds, as in RankWatch.
    """

    def __init__(self, timeout: float | int = 30.0) -> None:
        self.timeout = float(timeout)
        self._watch: RankWatch | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the lines, once the ranks can talk."""
        if trainer.world_size == 1:
            return
        door = listen() if trainer.is_global_zero else None
        port, password = trainer.strategy.broadcast((door.getsockname()[1], token_hex()) if door else (0, ""))
        if door:
            self._watch = accept(door, trainer.world_size, self.timeout, password)
        else:
            self._watch = call(port, trainer.global_rank, self.timeout, password)
        if self._watch is None:
            log.warning(
                "rank %d: not all ranks reach port %d of rank 0, so none is watched: where one dies, the "
                "others wait for strategy.timeout; callbacks.stop_together=null ends this warning",
                *(trainer.global_rank, port),
            )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say who is to blame: in this rank's error, or to the others."""
        if self._watch is None:
            return
        if isinstance(exception, SystemExit) and not exception.code:  # pre-emption, after saving
            self._watch.leave()
        elif verdict := self._watch.blame(exception):
            exception.add_note(verdict)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The run is over."""
        if self._watch is not None:
            self._watch.leave()
