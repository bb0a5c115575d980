"""Training with Lightning: the module, its data, the strategies, and the files that a run writes.

A name is imported when it is first asked for: the names of checkpoint files need no Lightning.
"""

from typing import TYPE_CHECKING

from codiemb.on_demand import on_demand

if TYPE_CHECKING:
    from codiemb.training.checkpoint_plugin import CheckpointFile
    from codiemb.training.datamodule import EmbeddingDataModule
    from codiemb.training.metrics_file import JsonlLogger
    from codiemb.training.module import EmbeddingModule
    from codiemb.training.schedule import learning_rate_schedule
    from codiemb.training.strategies import FSDP2, DeepSpeed

__all__ = [
    "FSDP2",
    "CheckpointFile",
    "DeepSpeed",
    "EmbeddingDataModule",
    "EmbeddingModule",
    "JsonlLogger",
    "learning_rate_schedule",
]
__getattr__ = on_demand(
    __name__,
    {
        "checkpoint_plugin": ("CheckpointFile",),
        "datamodule": ("EmbeddingDataModule",),
        "metrics_file": ("JsonlLogger",),
        "module": ("EmbeddingModule",),
        "schedule": ("learning_rate_schedule",),
        "strategies": ("FSDP2", "DeepSpeed"),
    },
)
