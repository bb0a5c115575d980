"""Fusion of checkpoints of one architecture: delta-guided, uniform soup, weighted average.

A name is imported when it is first asked for: the settings of a fusion need no torch.
"""

from typing import TYPE_CHECKING

from codiemb.on_demand import on_demand

if TYPE_CHECKING:
    from codiemb.fusion.checkpoint import model_folder
    from codiemb.fusion.fusing import FUSION_FILE, fuse
    from codiemb.fusion.method import FusionSpec, check_fusion

__all__ = [
    "FUSION_FILE",
    "FusionSpec",
    "check_fusion",
    "fuse",
    "model_folder",
]
__getattr__ = on_demand(
    __name__,
    {
        "fusing": ("FUSION_FILE", "fuse"),
        "method": ("FusionSpec", "check_fusion"),
        "checkpoint": ("model_folder",),
    },
)
