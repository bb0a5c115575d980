"""Training with Lightning: the module, its data, the strategies, and the files that a run writes."""

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
