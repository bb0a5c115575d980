"""When one rank dies, fails or hangs, all others name it and end."""

import atexit
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from typing_extensions import override

from codiemb.callbacks.lines import listen
from codiemb.callbacks.rank_watch import RankWatch, accept, call
from codiemb.errors import UserError
from codiemb.start_watch import ChildWatch, parent_watch
from codiemb.stop import RankLost, Stopped, at_once, last_words

log = logging.getLogger(__name__)

_SECONDS_TO_END = 5.0  # for ranks that this process has started, after its own end


class StopTogether(pl.Callback):
    """When one rank dies, fails or hangs, the others name it and stop, instead of waiting in a collective.

    Args:
        timeout: seconds without a word after which a rank counts as dead, and after which all have stopped.
        frozen_timeout: seconds of silence after which a rank counts as frozen, as in RankWatch; null: never.

    Raises:
        UserError: a time that is not positive.
    """

    def __init__(self, timeout: float | int = 30.0, frozen_timeout: float | int | None = 120.0) -> None:
        for name, value in {"timeout": timeout, "frozen_timeout": frozen_timeout}.items():
            if value is not None and value <= 0:
                raise UserError(f"callbacks.stop_together.{name}={value} must be above 0 (seconds)")
        self.timeout = float(timeout)
        self.frozen_timeout = None if frozen_timeout is None else float(frozen_timeout)
        self._watch: RankWatch | None = None
        self._child_watch: ChildWatch | None = None
        self._children: Callable[[], Sequence[subprocess.Popen]] = tuple

    def expect(self, launcher: Any) -> None:  # noqa: ANN401  Lightning's, whose class is private
        """Watch ranks that Lightning's launcher is about to start, until they can talk."""
        self._children = lambda: launcher.procs
        self._child_watch = ChildWatch(self._children, self.frozen_timeout, self._end)
        at_once.before_leaving = self._kill_children
        atexit.register(self._kill_children, _SECONDS_TO_END)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the lines, once the ranks can talk."""
        if trainer.world_size == 1:
            return
        door = listen() if trainer.is_global_zero else None
        port, password = trainer.strategy.broadcast((door.getsockname()[1], token_hex()) if door else (0, ""))
        if door:
            self._watch = accept(door, trainer.world_size, self.timeout, password, self.frozen_timeout)
        else:
            self._watch = call(port, trainer.global_rank, self.timeout, password, self.frozen_timeout)
        if self._watch is not None:
            self._watch.before_ending = self._kill_children
            self._stop_watching_by_parent()
            return
        log.warning(
            "rank %d: not all ranks reach port %d of rank 0, so none is watched: where one dies, the "
            "others wait for strategy.timeout; callbacks.stop_together=null ends this warning",
            *(trainer.global_rank, port),
        )

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say who is to blame: in this rank's error, or to the others.

        Raises:
            Stopped: instead of an error that only shows that a user has stopped another rank.
            RankLost: instead of one that only shows that a rank is gone.
        """
        self._stop_watching_by_parent()
        if self._watch is None:
            if isinstance(exception, Stopped):
                self._kill_children()
            return
        if isinstance(exception, Stopped):
            self._watch.stop(exception.message) if exception.alone else self._watch.leave()
        elif isinstance(exception, KeyboardInterrupt):
            self._watch.stop("Ctrl-C")
        elif verdict := self._watch.blame(exception):
            if self._watch.stopped is not None:
                raise Stopped(verdict, signal.SIGINT, alone=True) from exception
            if _is_of_a_collective(exception):
                raise RankLost(verdict) from exception
            exception.add_note(verdict)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop_watching_by_parent()
        if self._watch is not None:
            self._watch.leave()

    def leave_at_once(self, reason: str) -> None:
        """To call before this process is ended from outside of its main thread."""
        if self._watch is not None:
            self._watch.stop(reason)
        self._kill_children()

    def _kill_children(self, patience: float = 0.0) -> None:
        """Ranks that this process has started and that are still there at its end hang, or are frozen."""
        deadline = time.monotonic() + patience
        for child in self._children():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    def _stop_watching_by_parent(self) -> None:
        parent_watch.stop()
        if self._child_watch is not None:
            self._child_watch.stop()

    def _end(self, fault: str) -> None:
        """From a thread: the main one waits in C for a rank that will never come."""
        log.error("%s; rank 0 stops", fault)
        last_words.say("")
        self._kill_children()
        os._exit(1)


def _is_of_a_collective(error: BaseException) -> bool:
    """Gloo's errors are plain RuntimeErrors."""
    return type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
