"""Lightning callbacks and the metrics file: speed, memory, a plain progress bar, JSON-lines metrics."""

import json
import os
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from codiemb.batch import AnyBatch
from codiemb.rank_watch import RankWatch, accept, call, listen


class Speed(pl.Callback):
    """Logs tokens per second over all ranks, the share of time spent waiting for data, and peak memory.

    Every token is useful: the stream has no padding. Figures cover the batches since they were last logged.
    """

    def __init__(self, every_n_batches: int = 10) -> None:
        self.every_n_batches = every_n_batches
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
        """Count this batch's tokens and log every `every_n_batches`."""
        self._tokens += len(batch.texts.input_ids_T) * trainer.world_size
        now = time.perf_counter()
        if (batch_idx + 1) % self.every_n_batches == 0:
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


class JsonlLogger(Logger):
    """Appends one JSON object per logging call to `metrics.jsonl`: greppable, crash-safe, no server.

    A new run starts a new file; `go_on_from` continues one.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._path = Path(save_dir) / "metrics.jsonl"
        self._started = False
        self._pending: Mapping[str, float] = {}

    @property
    def name(self) -> str:
        """Lightning asks every logger for a name."""
        return "jsonl"

    @property
    def version(self) -> str:
        """One file per run folder."""
        return "0"

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def go_on_from(self, step: int, size: int, pending: Mapping[str, float]) -> None:
        """Drop the lines that a run going on after `step` steps writes again, or has half written.

        Args:
            step: optimizer steps done; the line of a step carries its number, from 0.
            size: of the file at the end of the last step: what was written up to there stays.
            pending: logged since the last training line, for the next one.
        """
        self._started, self._pending = True, pending
        if not self._path.is_file():
            return
        kept, end = [], 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            end += len(line)
            if end <= size or (line.endswith(b"\n") and json.loads(line)["step"] < step):
                kept.append(line)
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(b"".join(kept))
        os.replace(partial, self._path)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """The run folder already holds the resolved config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line."""
        if "epoch" in metrics:  # Lightning's line of a training step
            metrics, self._pending = {**self._pending, **metrics}, {}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a" if self._started else "w", encoding="utf-8") as file:
            self._started = True
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")


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
        port = trainer.strategy.broadcast(door.getsockname()[1] if door else 0)
        if door:
            self._watch = accept(door, trainer.world_size, self.timeout)
        else:
            self._watch = call(port, trainer.global_rank, self.timeout)

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
