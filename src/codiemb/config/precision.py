"""`${fast_precision:ACCELERATOR}` in a config: bf16 where this machine has instructions for it, else fp32."""

from collections.abc import Mapping
from typing import Any

_BF16 = ("amx_bf16", "avx512_bf16")  # a CPU without them computes bf16 by way of fp32, and slower


def fast_precision(accelerator: str) -> str:
    """A value for `trainer.precision`; a run's config.yaml holds the value and not the question.

    With AMX a training step of MiniLM takes 0.43 of its CPU time in fp32 (experiments/LOG.md).
    """
    import torch  # seconds, before the command line is checked

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # of torch 2.12; without it a run is slower, and not wrong
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if any(capabilities.get(name) for name in _BF16) else "32-true"
