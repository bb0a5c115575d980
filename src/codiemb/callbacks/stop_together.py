"""When one rank dies or fails, all others name it and end."""

import logging
from secrets import token_hex

import pytorch_lightning as pl
from typing_extensions import override

from codiemb.callbacks.rank_watch import RankWatch, accept, call, listen

log = logging.getLogger(__name__)


class StopTogether(pl.Callback):
    """When one rank dies or fails, the others name it and stop, instead of waiting in a collective.

    Args:
        timeout: seconds without a word after which a rank counts as dead, and after which all have stopped.
    """

    def __init__(self, timeout: float | int = 30.0) -> None:
        self.timeout = float(timeout)
        self._watch: RankWatch | None = None

    @override
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

    @override
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

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._watch is not None:
            self._watch.leave()
