"""The losses: modules that take an EmbeddedBatch, or TokenStates, never a model; a scalar and its logs."""

from codiemb.losses.angle import AnglE
from codiemb.losses.base import LossOutput
from codiemb.losses.distillation import DistillKL, MarginMSE
from codiemb.losses.graded import CoSENT, ListNet, Pearson, RankKL
from codiemb.losses.info_nce import InfoNCE
from codiemb.losses.lm import TokenPrediction
from codiemb.losses.mid_layer import MidLayerInfoNCE
from codiemb.losses.mixed import Graded, Ungraded
from codiemb.losses.pro import PRO
from codiemb.losses.wrappers import Matryoshka, WeightedSum

__all__ = [
    "PRO",
    "AnglE",
    "CoSENT",
    "DistillKL",
    "Graded",
    "InfoNCE",
    "ListNet",
    "LossOutput",
    "MarginMSE",
    "Matryoshka",
    "MidLayerInfoNCE",
    "Pearson",
    "RankKL",
    "TokenPrediction",
    "Ungraded",
    "WeightedSum",
]
