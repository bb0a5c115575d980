"""What happens beside training: one idea a file, each switched off by `callbacks.NAME=null`."""

from codiemb.callbacks.checkpoints import Checkpoints
from codiemb.callbacks.cpu import CpuKernels, KeepFreedMemory
from codiemb.callbacks.gradient_cosine import GradientCosine
from codiemb.callbacks.looks import DevMetrics, ProbeSources
from codiemb.callbacks.nonfinite import NonFiniteSteps
from codiemb.callbacks.progress import ProgressBar
from codiemb.callbacks.refresh import RefreshNegatives
from codiemb.callbacks.speed import Speed
from codiemb.callbacks.statistics import EmbeddingStatistics
from codiemb.callbacks.stop_together import StopTogether

__all__ = [
    "Checkpoints",
    "CpuKernels",
    "DevMetrics",
    "EmbeddingStatistics",
    "GradientCosine",
    "KeepFreedMemory",
    "NonFiniteSteps",
    "ProbeSources",
    "ProgressBar",
    "RefreshNegatives",
    "Speed",
    "StopTogether",
]
