"""Lightning's way to a checkpoint file: streamed to disk, read without pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from typing_extensions import override

from codiemb.training import checkpoint_files as files


class CheckpointFile(TorchCheckpointIO):
    """Streams a checkpoint to disk. Lightning's own builds it in memory and stages it in /tmp."""

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,
    ) -> None:
        """Write under a temporary name, then rename: Lightning's SLURM requeue has no record to go by."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + files.PARTIAL)
        try:
            with partial.open("wb") as stream:  # a Python file: torch's own writer hides the system's error
                torch.save(checkpoint, stream)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @override
    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Tensors and plain containers only, whoever asks: no pickled object is ever built."""
        return super().load_checkpoint(path, map_location, weights_only=True)
