"""What only training on a CPU gains from: memory that malloc keeps, and faster kernels."""

import ctypes
import sys

import pytorch_lightning as pl
from typing_extensions import override

from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.training.module import EmbeddingModule

# of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Have malloc use its heap for blocks of any size and never give the heap's end back.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so the system clears its
    pages again at every step: 140,000 page faults and 1.0 of 6.7 CPU s a step of 6,000 tokens. Kept, such a
    step takes 5.2 CPU s, in bf16 2.8 instead of 3.1, and peak memory is 1 to 5 % higher (experiments/LOG.md).

    Returns:
        Whether the C library knows how: glibc does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(*option) for option in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    )


class KeepFreedMemory(pl.Callback):
    """Where the model trains on CPU, keeps freed memory in the process, which saves a fifth of a step."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Before the first step; it holds until the process ends."""
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()


class CpuKernels(pl.Callback):
    """Where the model trains on CPU, runs its linear layers and its dropout on faster kernels."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, EmbeddingModule)
        if trainer.strategy.root_device.type == "cpu":
            use_cpu_kernels(pl_module.encoder.backbone)
