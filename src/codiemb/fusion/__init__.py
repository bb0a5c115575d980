"""Fusion of checkpoints of one architecture: delta-guided, uniform soup, weighted average."""

from codiemb.fusion.checkpoint import is_adapter, model_folder
from codiemb.fusion.run import FUSION_FILE, fuse
from codiemb.fusion.spec import FusionSpec, check_fusion

__all__ = ["FUSION_FILE", "FusionSpec", "check_fusion", "fuse", "is_adapter", "model_folder"]
