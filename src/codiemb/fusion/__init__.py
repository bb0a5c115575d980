"""Fusion of checkpoints of one architecture: delta-guided, uniform soup, weighted average."""

from codiemb.fusion.fuse import FUSION_FILE, fuse
from codiemb.fusion.method import FusionSpec, check_fusion
from codiemb.fusion.model_folder import model_folder

__all__ = ["FUSION_FILE", "FusionSpec", "check_fusion", "fuse", "model_folder"]
