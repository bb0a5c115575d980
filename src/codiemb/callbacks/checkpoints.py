"""Save and restore training between two optimizer steps: on a schedule, at the end, and before a stop."""

import logging
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from typing_extensions import override

from codiemb.callbacks.stop_together import StopTogether
from codiemb.errors import UserError
from codiemb.stop import Stopped
from codiemb.training import checkpoint_files as files
from codiemb.training.due import is_due, is_logged
from codiemb.training.metrics_file import JsonlLogger
from codiemb.training.signals import StopRequest

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Writes `checkpoints/step-40.ckpt` in the run folder, atomically, and keeps the newest ones.

    Saves at the start of the step after the one saved: then that step's metrics are logged, nothing is
    half done, and the state is that of a whole number of optimizer steps. SIGTERM and Ctrl-C save first,
    between two steps, and stop all ranks together.

    Args:
        every_n_steps: optimizer steps between two checkpoints.
        every_n_minutes: also after so many minutes without one.
        keep: how many checkpoints stay; two or more, so that a damaged one has a predecessor.
        stuck_after: seconds that rank 0 may spend in one call into C after SIGTERM or Ctrl-C; then the run
            ends without saving. null: no limit.

    Raises:
        UserError: a value below its least one.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        every_n_minutes: float | int | None = None,
        keep: int = 2,
        stuck_after: float | int | None = 120.0,
    ) -> None:
        super().__init__()
        least = {
            "every_n_steps": (every_n_steps, 1),
            "every_n_minutes": (every_n_minutes, 0),
            "keep": (keep, 2),
            "stuck_after": (stuck_after, 1),
        }
        for name, (value, lowest) in least.items():
            if value is not None and value < lowest:
                raise UserError(f"callbacks.checkpoint.{name}={value} must be at least {lowest}")
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.keep = keep
        self._stop = StopRequest(None if stuck_after is None else float(stuck_after))
        self._metrics_size = 0
        self._saved_step = 0
        self._saved_at = time.monotonic()

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put Lightning's loops between two steps, whatever the accumulation was and is; cut the metrics."""
        step = checkpoint["global_step"]
        checkpoint["loops"]["fit_loop"] |= _loops_after(step, trainer.accumulate_grad_batches)
        if trainer.is_global_zero and "metrics" in checkpoint:
            for logger in _jsonl_loggers(trainer):
                logger.go_on_from(step, **checkpoint["metrics"])

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """How far the metrics have come, and what the next line of them knows already."""
        values = {}
        if trainer._results is not None and not is_logged(trainer, trainer.global_step):
            pending = trainer._results.metrics(on_step=True)["log"]
            values = {name: float(value) for name, value in pending.items()}
        checkpoint["metrics"] = {"size": self._metrics_size, "pending": values}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what a continued run writes anew, and listen for signals until Lightning's fit ends.

        Replaces Lightning's handler, which takes part in a collective from inside the handler, and does not
        save. Lightning puts all handlers back when `fit` ends. SLURM's requeue signal stays Lightning's.
        """
        self._saved_step = trainer.global_step
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            files.clear_after(_folder(trainer), self._saved_step)
        trainer.strategy.barrier("cleared")  # no rank writes before rank 0 has removed the leftovers
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        leave = [callback.leave_at_once for callback in callbacks if isinstance(callback, StopTogether)]
        self._stop.listen(leave[0] if leave else None)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Hear no more; but who leaves at once is ended if the rest of the way out takes too long.

        Raises:
            Stopped: for a Ctrl-C before the first step, of which Lightning would make exit code 1.
        """
        if isinstance(exception, KeyboardInterrupt):
            raise Stopped("stopped by SIGINT before the first step", signal.SIGINT, alone=True) from exception
        if not (isinstance(exception, Stopped) and exception.alone):
            self._stop.close()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop.close()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Between two optimizer steps: stop if asked to, save if it is time."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._between_steps(trainer, due=self._is_due(trainer))

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Lightning calls this callback last: what others have logged by now belongs to the steps done."""
        self._metrics_size = max((logger.size for logger in _jsonl_loggers(trainer)), default=0)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last state is always saved, before anything that takes time: evaluation, export."""
        self._between_steps(trainer, due=True)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self.every_n_minutes is None:
            return is_due(trainer.global_step, self.every_n_steps)
        late = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        # clocks differ among ranks; all must save together
        late = trainer.strategy.reduce_boolean_decision(late, all=False)
        return late or is_due(trainer.global_step, self.every_n_steps)

    def _between_steps(self, trainer: pl.Trainer, *, due: bool) -> None:
        # one rank may have heard the signal a step before another: all stop at the same step, or hang
        stop = trainer.strategy.reduce_boolean_decision(bool(self._stop.signum), all=False)
        step = trainer.global_step
        if (due or stop) and step > self._saved_step:
            self._save(trainer, step)
        if stop:
            interrupted = self._stop.signum == signal.SIGINT  # perhaps on another rank only
            interrupted = trainer.strategy.reduce_boolean_decision(interrupted, all=False)
            signum = signal.SIGINT if interrupted else signal.SIGTERM
            state = (
                f"saved {files.checkpoint_path(_folder(trainer), step)}" if step else "nothing to save yet"
            )
            raise Stopped(f"stopped by {signum.name} after step {step}: {state}", signum)

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        """Write; where all ranks have written, commit and thin out. All succeed or raise together.

        Raises:
            UserError: the disk is full or refuses; the last good checkpoint is untouched.
        """
        folder = _folder(trainer)
        partial = folder / f"step-{step}{files.PARTIAL}"
        problem: OSError | None = None
        try:
            trainer.save_checkpoint(partial)
        except Exception as error:
            problem = files.disk_error(error)
            if problem is None:
                raise
            trainer.strategy.barrier("not written")  # the other ranks wait at the one inside save_checkpoint
        written = trainer.strategy.reduce_boolean_decision(problem is None, all=True)
        if written and trainer.is_global_zero:
            try:
                files.commit(partial, step)
                files.keep_newest(folder, self.keep)
            except OSError as error:
                problem = error
        if not trainer.strategy.reduce_boolean_decision(written and problem is None, all=True):
            if trainer.is_global_zero:
                files.remove(partial)
            raise UserError(_not_saved(folder, step, problem))
        self._saved_step, self._saved_at = step, time.monotonic()


def _not_saved(folder: Path, step: int, problem: OSError | None) -> str:
    reason = "another rank could not write" if problem is None else files.describe_disk_error(problem, folder)
    good = files.committed(folder)
    last = f"the last good checkpoint is {good[-1].path}" if good else "there is no earlier one"
    return f"the checkpoint of step {step} was not saved: {reason}. Make room and resume=true; {last}"


def _jsonl_loggers(trainer: pl.Trainer) -> list[JsonlLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, JsonlLogger)]


def _folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


def _loops_after(step: int, accumulation: int) -> Mapping[str, Any]:
    """State of Lightning 2.6's loops in the middle of their one epoch, `step` optimizer steps done."""
    done = step * accumulation
    batches = {"ready": done, "started": done, "processed": done, "completed": done}
    epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    return {
        "epoch_progress": {"total": dict(epoch), "current": dict(epoch)},
        "epoch_loop.batch_progress": {
            "total": dict(batches),
            "current": dict(batches),
            "is_last_batch": False,
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": step},  # the step number of the loggers
    }
