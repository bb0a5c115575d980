"""fuse.search: choose on the dev side how checkpoints are weighed, then how much of their change is kept."""

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from codiemb.atomic import scratch, write_text
from codiemb.config.schema import FuseConfig
from codiemb.fusion import fuse
from codiemb.fusion.record import fusion_options
from codiemb.tables import Sheet

log = logging.getLogger(__name__)

SEARCH_FILE = "search.json"
_WEIGHT_STEPS = 4  # weights are multiples of 1/4; 15 trials for three checkpoints
Scores = Mapping[str, float]  # by task, in 0..1


class Trial(NamedTuple):
    """A fusion and its scores on the dev side."""

    spec: FuseConfig
    scores: Scores

    @property
    def mean(self) -> float:
        """Over the tasks."""
        return fmean(self.scores.values())


def method_trials(spec: FuseConfig) -> list[FuseConfig]:
    """The grid of weights, for several checkpoints. Exponent 0 is the uniform soup, and tried once."""
    if len(spec.checkpoints) == 1 or spec.method == "uniform":
        return []
    if spec.method == "weighted":
        return [replace(spec, weights=weights) for weights in _simplex(len(spec.checkpoints))]
    grid = itertools.product(spec.search_exponents, spec.search_granularities)
    first = spec.search_granularities[0]
    return [replace(spec, exponent=p, granularity=g) for p, g in grid if p != 0 or g == first]


def scale_trials(spec: FuseConfig) -> list[FuseConfig]:
    """The grid of scales, the base itself first; none without a base, or with nothing to choose."""
    if spec.base is None or not spec.search_scales:
        return []
    alone = [replace(spec, scale=scale, scale_exponent=0.0) for scale in (0.0, 1.0)]
    inner = [scale for scale in spec.search_scales if 0 < scale < 1]
    grid = itertools.product(spec.search_scale_exponents, inner)
    shared = [replace(spec, scale=scale, scale_exponent=exponent) for exponent, scale in grid]
    return [alone[0], *shared, alone[1]]


def search(spec: FuseConfig, run_dir: Path, score: Callable[[Path], Scores]) -> tuple[FuseConfig, Sheet]:
    """Fuse and score every trial, one after the other in one temporary folder.

    First the weights of several checkpoints, by the best mean; then, with a base, the scale, by `best_scale`.

    Args:
        spec: its grids are searched.
        run_dir: gets search.json.
        score: of a fused folder, by task on the dev side; higher is better.

    Returns:
        The spec with the choice, and the table of all trials.
    """
    with scratch(run_dir / "search") as folder:
        ways = _scored(method_trials(spec), [], folder / "trial", score)
        chosen = max(ways, key=lambda trial: trial.mean).spec if ways else spec
        scaled = _scored(scale_trials(chosen), ways, folder / "trial", score)
    best = best_scale(scaled) if scaled else max(ways, key=lambda trial: trial.mean)
    trials = [*ways, *(trial for trial in scaled if trial not in ways)]
    record = [{"options": fusion_options(t.spec), "score": t.mean, "scores": dict(t.scores)} for t in trials]
    write_text(run_dir / SEARCH_FILE, json.dumps(record, indent=2) + "\n")
    return best.spec, _sheet(trials, best, scaled)


def best_scale(trials: list[Trial]) -> Trial:
    """The best mean of those that are below the base in no task; where there is none, of all.

    Args:
        trials: the base first, which is not chosen itself.
    """
    base, *others = trials
    harmless = [trial for trial in others if not fallen(trial, base)]
    return max(harmless or others, key=lambda trial: trial.mean)


def fallen(trial: Trial, base: Trial) -> list[str]:
    """The tasks in which a trial is below the base."""
    return [task for task, score in trial.scores.items() if score < base.scores[task]]


def _scored(
    grid: list[FuseConfig], known: list[Trial], folder: Path, score: Callable[[Path], Scores]
) -> list[Trial]:
    """Trials of a grid; those of an earlier one are not scored again."""
    trials = []
    for number, spec in enumerate(grid, 1):
        before = next((trial for trial in known if trial.spec == spec), None)
        scores = before.scores if before else score(fuse(spec.checkpoints, folder, spec, base=spec.base))
        trials.append(before or Trial(spec, scores))
        log.info("[%d/%d] %s: %.2f", number, len(grid), _text(spec), 100 * trials[-1].mean)
    return trials


def _sheet(trials: list[Trial], best: Trial, scaled: list[Trial]) -> Sheet:
    """A row for each trial, or a column where tasks are more; with a base also what is below the base."""
    tasks = tuple(best.scores) if len(best.scores) > 1 else ()
    table = [("Trial", *tasks, "Mean")]
    for t in trials:
        scores = [*(t.scores[task] for task in tasks), t.mean]
        table.append((_text(t.spec), *(f"{100 * score:.2f}" for score in scores)))
    if len(trials) < len(tasks):
        table = list(zip(*table, strict=True))
    notes = [f"Chosen: {_text(best.spec)}, {100 * best.mean:.2f}"]
    if scaled and (below := fallen(best, scaled[0])):
        notes.append(f"Below the base in {', '.join(below)}: every scale is, in some task")
    return Sheet("fuse.search on the dev side", table[0], tuple(table[1:]), tuple(notes))


def _simplex(num_checkpoints: int) -> list[list[float]]:
    """Equal weights, then all non-negative multiples of 1 / _WEIGHT_STEPS that add up to 1."""
    counts = itertools.product(range(_WEIGHT_STEPS, -1, -1), repeat=num_checkpoints)
    grid = [[n / _WEIGHT_STEPS for n in row] for row in counts if sum(row) == _WEIGHT_STEPS]
    equal = [1 / num_checkpoints] * num_checkpoints
    return [equal, *(weights for weights in grid if weights != equal)]


def _text(spec: FuseConfig) -> str:
    """The options that a trial varies."""
    return ", ".join([*_ways_text(spec), *_scale_text(spec)])


def _ways_text(spec: FuseConfig) -> list[str]:
    if len(spec.checkpoints) == 1 or spec.method == "uniform":
        return []
    if spec.method == "weighted":
        return ["weights " + ", ".join(f"{weight:.2f}" for weight in spec.weights)]
    return [f"exponent {spec.exponent:g}, {spec.granularity}"]


def _scale_text(spec: FuseConfig) -> list[str]:
    if spec.scale == 1 and len(spec.checkpoints) > 1:
        return []
    by_tensor = f" by tensor ({spec.scale_exponent:g})" if spec.scale_exponent and 0 < spec.scale < 1 else ""
    return [f"scale {spec.scale:g}{by_tensor}"]
