"""DeepSpeed's checkpoint files: a full disk is everybody's error, and no pickled object is ever built."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from typing_extensions import override

from codiemb.training.checkpoint_files import disk_error

_OF_DEEPSPEED: list[Any] = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]


class CheckpointFiles(TorchCheckpointEngine):
    """Put in the place of DeepSpeed's own, which unpickles, and hides the system's error.

    `problem` is why a file could not be written. It is kept instead of raised: between two files the ranks
    meet at barriers, where one that has raised would never come.
    """

    problem: OSError | None = None

    @contextmanager
    def keeping_problems(self) -> Iterator[None]:
        """What the disk refuses inside goes to `problem`; also a decorator."""
        try:
            yield
        except Exception as error:
            problem = disk_error(error)
            if problem is None:
                raise
            self.problem = self.problem or problem  # the first is the cause

    @override
    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Of every rank; that of rank 0 has a barrier behind it."""
        with self.keeping_problems():
            super().makedirs(path, exist_ok)

    @override
    def save(self, state_dict: dict[str, Any], path: str) -> None:
        """Through a Python file, whose errors are the system's; torch's own writer has none of it."""
        with self.keeping_problems(), Path(path).open("wb") as stream:
            torch.save(state_dict, stream)

    @override
    def load(self, path: str, map_location: Any = None) -> dict[str, Any]:
        """Tensors, plain containers, and what DeepSpeed itself puts between them."""
        with torch.serialization.safe_globals(_OF_DEEPSPEED):
            return torch.load(path, map_location=map_location, weights_only=True)
