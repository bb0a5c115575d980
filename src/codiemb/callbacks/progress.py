"""How far training is: on a terminal a bar that fits a line, elsewhere a line now and then."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from typing_extensions import override

from codiemb.training.module import EmbeddingModule

log = logging.getLogger(__name__)
SECONDS = 30.0  # between two lines


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the loss per task, tokens per second and the time left; names without prefixes.

    A loss is the mean since the last line of the loggers, of this rank; where a task has had no batch since,
    that of the last line. It is read from the device when the bar is drawn, not at every step.

    Where stdout is no terminal, a bar would fill a log with kilobytes a minute: there a line every 30 seconds
    has the same.
    """

    @property
    @override
    def is_enabled(self) -> bool:
        return super().is_enabled and sys.stdout.isatty()

    @override
    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """A continued run starts in mid-epoch, where Lightning's bar knows no total."""
        super().on_train_start(trainer, *args)
        bar, done = self.train_progress_bar, trainer.fit_loop.epoch_loop.batch_progress.current.completed
        bar.total, bar.initial, bar.n = int(self.total_train_batches), done, done
        self._first, self._started = done, time.monotonic()
        self._said = self._started

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        now = time.monotonic()
        if trainer.is_global_zero and not self.is_enabled and now - self._said >= SECONDS:
            self._said = now
            log.info("%s", self._line(trainer, pl_module, batch_idx + 1, now - self._started))

    def _line(self, trainer: pl.Trainer, module: pl.LightningModule, done: int, seconds: float) -> str:
        total = int(self.total_train_batches)
        left = seconds / max(done - self._first, 1) * (total - done)
        minutes, rest = divmod(round(left), 60)
        metrics = self.get_metrics(trainer, module)
        values = ", ".join(f"{name} {v:,.4g}" for name, v in metrics.items() if isinstance(v, float))
        return f"batch {done:,} of {total:,}, {minutes}:{rest:02d} left: {values}"

    @override
    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Short names, so that the bar fits a line."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if isinstance(pl_module, EmbeddingModule):
            so_far = pl_module.means.so_far()
            metrics |= {
                name: so_far[name] for task in pl_module.losses if (name := f"train/loss/{task}") in so_far
            }
        short = {"perf/tokens_per_second": "tok/s"}
        return {short.get(name, name.removeprefix("train/")): value for name, value in metrics.items()}
