"""Evaluate the untrained encoder on all ranks: once they can talk, before any strategy shards its weights."""

from collections.abc import Callable
from typing import Generic, TypeVar

import pytorch_lightning as pl
import torch.distributed as dist
from typing_extensions import override

from codiemb.encoder.over_ranks import over_ranks
from codiemb.text_encoder import TextEncoder
from codiemb.training.module import EmbeddingModule

Scores = TypeVar("Scores")


class BeforeTraining(pl.Callback, Generic[Scores]):
    """Calls `evaluate` on rank 0 with an encoder that all ranks share; `result` is what it returned there.

    In `setup`, where a checkpoint to go on from is not loaded yet. Put it after `StopTogether`, which then
    watches the ranks.
    """

    def __init__(self, evaluate: Callable[[TextEncoder], Scores]) -> None:
        self.evaluate = evaluate
        self.result: Scores | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """All ranks have rank 0's weights, as in training."""
        assert isinstance(pl_module, EmbeddingModule)
        if trainer.world_size > 1:
            for tensor in (*pl_module.encoder.parameters(), *pl_module.encoder.buffers()):
                dist.broadcast(tensor.detach(), src=0)
        self.result = over_ranks(pl_module.encoder, self.evaluate)
