"""Which process of a run this is, told from the environment: before torch.distributed exists, too."""

import os
import platform

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_main_process() -> bool:
    """True on the one process that writes files and prints."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def rank_name() -> str:
    """Host and number of a rank other than 0."""
    name = next(name for name in _RANKS if os.environ.get(name, "0") != "0")
    return f"{platform.node()} ({name}={os.environ[name]})"


def in_sweep() -> bool:
    """Whether this process runs a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
