"""What fusion.json says about a fusion, and the warning that its checkpoints hardly belong together."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from codiemb.fusion.checkpoint import Checkpoint
from codiemb.fusion.method import FusionSpec
from codiemb.fusion.weights import TensorReport

log = logging.getLogger(__name__)
_LEAST_OVERLAP = 0.1  # about 1 for weights trained from the origin, about 0 for those of another start


def fusion_record(
    spec: FusionSpec,
    checkpoints: list[Checkpoint],
    origin: Checkpoint,
    reports: Mapping[str, TensorReport],
    scales: Mapping[str, float],
) -> dict[str, Any]:
    """Options, and by checkpoint: its mean weight, its lowest and highest of a tensor, and two distances.

    `moved` is |theta_k - theta_0| / |theta_0|, and `overlap` is <theta_k, theta_0> / |theta_0|^2, over the
    matrices alone: norm weights are about one in every model. theta_0 is the base, or the first checkpoint.
    `scales` by tensor, where a part of the way is kept.
    """
    weight_PK = torch.stack([report.weight_K for report in reports.values()])
    entries_P1 = torch.tensor([report.num_entries for report in reports.values()])[:, None]
    mean_K = (weight_PK * entries_P1).sum(0) / entries_P1.sum()
    matrices = [report for name, report in reports.items() if len(checkpoints[0].tensors[name].shape) > 1]
    zero_K = torch.zeros_like(mean_K)
    squared_origin = sum(report.squared_origin for report in matrices) or 1.0
    moved_K = (sum((report.squared_delta_K for report in matrices), zero_K) / squared_origin).sqrt()
    overlap_K = 1 + sum((report.delta_dot_origin_K for report in matrices), zero_K) / squared_origin
    rows = []
    for k, checkpoint in enumerate(checkpoints):
        weight_P = weight_PK[:, k]
        numbers = {
            "weight": mean_K[k],
            "lowest": weight_P.min(),
            "highest": weight_P.max(),
            "moved": moved_K[k],
            "overlap": overlap_K[k],
        }
        rows.append({"path": checkpoint.name} | {key: round(float(n), 6) for key, n in numbers.items()})
    _warn_of_strangers(rows, origin.name)
    return {
        "method": spec.method,
        "options": fusion_options(spec),
        "origin": origin.name,
        "checkpoints": rows,
        "tensors": {name: [round(w, 6) for w in r.weight_K.tolist()] for name, r in reports.items()},
    } | ({"scales": {name: round(scale, 6) for name, scale in scales.items()}} if spec.scale < 1 else {})


def fusion_options(spec: FusionSpec) -> dict[str, Any]:
    """The options that the fusion reads; an infinite exponent as a string, for JSON has none."""
    scale = {"scale": spec.scale, "scale_exponent": spec.scale_exponent} if spec.scale < 1 else {}
    return _method_options(spec) | scale


def _method_options(spec: FusionSpec) -> dict[str, Any]:
    if spec.method == "weighted":
        return {"weights": list(spec.weights)}
    if spec.method == "uniform":
        return {}
    exponent = spec.exponent if torch.tensor(spec.exponent).isfinite() else str(spec.exponent)
    return {"exponent": exponent, "granularity": spec.granularity, "norm": spec.norm}


def _warn_of_strangers(rows: list[dict[str, Any]], origin: str) -> None:
    for row in rows:
        if row["overlap"] < _LEAST_OVERLAP:
            log.warning(
                "%s has next to nothing in common with %s (overlap %.2f): weights that did not start from "
                "one initialisation cannot be fused into anything that works",
                row["path"],
                origin,
                row["overlap"],
            )
