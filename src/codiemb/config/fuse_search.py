"""fuse.search: choose exponent and granularity, or the weights, of a fusion on a plain grid."""

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codiemb.atomic import scratch, write_text
from codiemb.config.schema import EvaluationTaskConfig, FuseConfig
from codiemb.errors import UserError
from codiemb.fusion import check_fusion, fuse
from codiemb.fusion.record import fusion_options

if TYPE_CHECKING:
    from codiemb.evaluation import Sheet

log = logging.getLogger(__name__)

SEARCH_FILE = "search.json"
_WEIGHT_STEPS = 4  # weights are multiples of 1/4; 15 trials for three checkpoints


def check_fuse(spec: FuseConfig, task: EvaluationTaskConfig) -> None:
    """Refuse a fusion or a search that could only fail later.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    search = spec.search
    if search and spec.method == "weighted":
        spec = replace(spec, weights=spec.weights or [1.0] * len(spec.checkpoints))
    check_fusion(spec, spec.checkpoints, spec.base)
    if not search:
        return
    if spec.method == "uniform":
        raise UserError(
            "fuse.search=true has nothing to choose with fuse.method=uniform; use delta or weighted"
        )
    if task.name not in ("builtin", "folder"):
        raise UserError(
            f"fuse.search=true chooses on the dev side of task=builtin or folder; task={task.name} has none"
        )
    for key in ("search_exponents", "search_granularities"):
        if not getattr(spec, key):
            raise UserError(f"fuse.{key}=[] leaves nothing to choose from")
    for trial in trials(spec):
        check_fusion(trial, spec.checkpoints, spec.base)


def trials(spec: FuseConfig) -> list[FuseConfig]:
    """The grid. Exponent 0 is the uniform soup in every granularity, and tried once."""
    if spec.method == "weighted":
        return [replace(spec, weights=weights) for weights in _simplex(len(spec.checkpoints))]
    grid = itertools.product(spec.search_exponents, spec.search_granularities)
    first = spec.search_granularities[0]
    return [replace(spec, exponent=p, granularity=g) for p, g in grid if p != 0 or g == first]


def search(spec: FuseConfig, run_dir: Path, score: Callable[[Path], float]) -> "tuple[FuseConfig, Sheet]":
    """Fuse and score every trial, one after the other in one temporary folder.

    Args:
        spec: its grid is searched.
        run_dir: gets search.json.
        score: of a fused folder, on the dev side; higher is better.

    Returns:
        The spec with the choice, the first of the best, and the table of all trials.
    """
    from codiemb.evaluation import Sheet

    scored: list[tuple[float, FuseConfig]] = []
    grid = trials(spec)
    with scratch(run_dir / "search") as folder:
        for number, trial in enumerate(grid, 1):
            fused = fuse(trial.checkpoints, folder / "trial", trial, base=trial.base)
            scored.append((score(fused), trial))
            log.info("[%d/%d] %s: %.2f", number, len(grid), _text(trial), 100 * scored[-1][0])
    best_score, best = max(scored, key=lambda pair: pair[0])
    record = [{"options": fusion_options(trial), "score": value} for value, trial in scored]
    write_text(run_dir / SEARCH_FILE, json.dumps(record, indent=2) + "\n")
    rows = [(_text(trial), f"{100 * value:.2f}") for value, trial in scored]
    note = f"Chosen: {_text(best)}, {100 * best_score:.2f}"
    return best, Sheet("fuse.search on the dev side", ("Trial", "Mean"), tuple(rows), (note,))


def _simplex(num_checkpoints: int) -> list[list[float]]:
    """Equal weights, then all non-negative multiples of 1 / _WEIGHT_STEPS that add up to 1."""
    counts = itertools.product(range(_WEIGHT_STEPS, -1, -1), repeat=num_checkpoints)
    grid = [[n / _WEIGHT_STEPS for n in row] for row in counts if sum(row) == _WEIGHT_STEPS]
    equal = [1 / num_checkpoints] * num_checkpoints
    return [equal, *(weights for weights in grid if weights != equal)]


def _text(spec: FuseConfig) -> str:
    """The options that a trial varies."""
    if spec.method == "weighted":
        return "weights " + ", ".join(f"{weight:.2f}" for weight in spec.weights)
    return f"exponent {spec.exponent:g}, {spec.granularity}"
