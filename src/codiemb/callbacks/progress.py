"""A progress bar that fits a line."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from typing_extensions import override


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the loss per task, tokens per second and the time left; names without prefixes."""

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
        short = {"perf/tokens_per_second": "tok/s"}
        return {short.get(name, name.removeprefix("train/")): value for name, value in metrics.items()}
