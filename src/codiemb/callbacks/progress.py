"""A progress bar that fits a line."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from typing_extensions import override

from codiemb.training.module import EmbeddingModule


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the loss per task, tokens per second and the time left; names without prefixes.

    A loss is the mean since the last line of the loggers, of this rank; where a task has had no batch since,
    that of the last line. It is read from the device when the bar is drawn, not at every step.
    """

    @override
    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """A continued run starts in mid-epoch, where Lightning's bar knows no total."""
        super().on_train_start(trainer, *args)
        bar, done = self.train_progress_bar, trainer.fit_loop.epoch_loop.batch_progress.current.completed
        bar.total, bar.initial, bar.n = int(self.total_train_batches), done, done

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
