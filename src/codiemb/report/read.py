"""What lies in a run folder, read back: metrics as curves, looks at the probe, evaluations, config."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codiemb.errors import UserError
from codiemb.json_files import numbered_lines, read_json

Curve = list[tuple[float, float]]  # (optimizer step, value), finite values only


@dataclass(frozen=True)
class Run:
    """A run folder; whatever a run did not get to is empty."""

    folder: Path
    config_text: str
    config: dict[str, Any]
    environment: dict[str, Any]
    curves: dict[str, Curve]  # by metric name
    num_left_out: int  # values that are not finite
    looks: list[dict[str, Any]]  # at the probe, oldest first
    before: list[dict[str, Any]]  # results of an Evaluation, as JSON: importing it would import mteb
    after: list[dict[str, Any]]
    trained: list[dict[str, Any]]  # of the model that was fused, where `after` is of the fusion
    num_missing: int  # tasks without a score, over which no mean goes
    seconds: float | None  # None: the run has not finished

    @property
    def tasks(self) -> list[str]:
        """The tasks that were trained, as their losses were logged."""
        names = (name.split("/") for name in self.curves)
        return sorted({parts[2] for parts in names if parts[:2] == ["train", "loss"] and len(parts) == 3})


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: it holds no run, or a file in it cannot be read.
    """
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml; give outputs/STAGE/TIME")
    try:
        text = config_file.read_text("utf-8")
        config = yaml.safe_load(text) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{config_file}: damaged ({error}); put a copy back") from error
    curves, num_left_out = _curves(folder / "metrics.jsonl")
    result = _json(folder / "result.json")
    return Run(
        folder=folder,
        config_text=text,
        config=config,
        environment=_json(folder / "environment.json"),
        curves=curves,
        num_left_out=num_left_out,
        looks=[look for _, look in _lines(folder / "probe.jsonl")],
        before=_results_of(folder / "evaluation" / "before.json"),
        after=_results_of(folder / "evaluation" / "results.json"),
        trained=_results_of(folder / "evaluation" / "trained.json"),
        num_missing=len(_json(folder / "evaluation" / "results.json").get("missing", [])),
        seconds=result.get("seconds"),
    )


def _curves(path: Path) -> tuple[dict[str, Curve], int]:
    """Curves by name; a step logged twice (a run that was continued) keeps its last value."""
    values: dict[str, dict[float, float]] = {}
    left_out = 0
    for place, row in _lines(path):
        if not isinstance(row.get("step"), int):
            raise UserError(f"{place}: no step; every line of the metrics needs one")
        for name, value in row.items():
            if name in ("step", "time", "epoch") or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                values.setdefault(name, {})[float(row["step"])] = float(value)
            else:
                left_out += 1
    return {name: sorted(points.items()) for name, points in values.items()}, left_out


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON-lines file with their places; a last line cut short by a crash is passed over."""
    if not path.is_file():
        return
    broken = ""
    for number, line in numbered_lines(path):
        if broken:
            raise UserError(f"{broken}; delete the line")
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:  # not JSON, or not UTF-8
            broken = f"{place}: not valid JSON ({error})"
            continue
        if not isinstance(row, dict):
            raise UserError(f"{place}: not a JSON object; delete the line")
        yield place, row


def _results_of(path: Path) -> list[dict[str, Any]]:
    """Of an evaluation that has finished: part of the tasks would have a mean over part of them."""
    record = _json(path)
    results: list[dict[str, Any]] = [] if record.get("pending") else record.get("results", [])
    return results


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, {}, "remove it to see the rest of the run")
