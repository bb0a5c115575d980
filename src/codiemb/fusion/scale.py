"""How much of each tensor's change a fusion keeps: FusionSpec.scale, or a scale of the tensor's own."""

import math
from collections.abc import Mapping, Sequence

from codiemb.fusion.checkpoint import Checkpoint
from codiemb.fusion.method import FusionSpec
from codiemb.fusion.weights import TensorReport, fuse_tensor

_LARGEST = 700.0  # of an exponent of e in float64; scale^(e^700) is 0 for every scale below 1


def tensor_scales(
    spec: FusionSpec, origin: Checkpoint, checkpoints: Sequence[Checkpoint], names: Sequence[str]
) -> dict[str, float]:
    """The scale of every tensor by name. One for all costs nothing; else all tensors are read once more."""
    if spec.scale in (0, 1) or spec.scale_exponent == 0:
        return dict.fromkeys(names, spec.scale)
    reports = {}
    for name in names:
        thetas = [checkpoint.read(name) for checkpoint in checkpoints]
        _, reports[name] = fuse_tensor(spec, origin.read(name), thetas)
    return scales_of(spec, reports)


def scales_of(spec: FusionSpec, reports: Mapping[str, TensorReport]) -> dict[str, float]:
    """scale^((r_t / r)^scale_exponent) of every tensor, as FusionSpec has it."""
    squared = sum(report.squared_change for report in reports.values())
    entries = sum(report.num_entries for report in reports.values())
    return {
        name: _scale(spec, report.squared_change / max(report.num_entries, 1), squared / max(entries, 1))
        for name, report in reports.items()
    }


def _scale(spec: FusionSpec, of_tensor: float, of_all: float) -> float:
    """From the mean squares of a tensor's change and of all; one that did not move may have any scale."""
    if of_tensor == 0:
        return spec.scale
    log_power = spec.scale_exponent * (math.log(of_tensor) - math.log(of_all)) / 2
    return float(spec.scale ** math.exp(min(log_power, _LARGEST)))
