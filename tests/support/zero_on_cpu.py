"""The thinnest way past the demand for GPUs: DeepSpeed's, Lightning's and ours."""

import os
import sys

import pytorch_lightning.strategies.deepspeed
import torch
from pytorch_lightning.accelerators import CPUAccelerator

from codiemb.config import strategy as strategy_group


def let_deepspeed_run_on_cpu() -> None:
    """In this process, from now on: gloo carries what NCCL would."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # or DeepSpeed would look for one, and warn
    strategy_group.CUDAAccelerator = pytorch_lightning.strategies.deepspeed.CUDAAccelerator = CPUAccelerator
    CPUAccelerator.get_parallel_devices = staticmethod(lambda n: [torch.device("cpu", i) for i in range(n)])
    import deepspeed

    # an inference kernel for CPUs that nothing here uses, and that takes 20 s to compile
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None
    deepspeed.utils.logger.setLevel("ERROR")
