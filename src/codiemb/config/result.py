"""What a run leaves when it has finished, for sweeps, resumes and people: result.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from codiemb.atomic import write_text
from codiemb.errors import UserError
from codiemb.json_files import read_json

RESULT_FILE = "result.json"
_HINT = "put a copy back, or remove it and resume=true goes on from the last checkpoint"


def write_result(
    run_dir: Path, scores: dict[str, float], seconds: float, more: Mapping[str, object] | None = None
) -> None:
    """With this file in its folder, a run has finished; only its report comes after it.

    Args:
        run_dir: of the run.
        scores: by task, of the model in its `export`.
        seconds: that it took.
        more: what else there is to say of it.
    """
    result = {"scores": scores, "seconds": round(seconds, 1), **(more or {})}
    write_text(run_dir / RESULT_FILE, json.dumps(result, indent=2) + "\n")


def has_result(run_dir: Path) -> bool:
    """Whether the run in this folder has finished."""
    return (run_dir / RESULT_FILE).is_file()


def read_scores(run_dir: Path) -> dict[str, float]:
    """By task, in 0..1; empty for a run that has not finished, or without an evaluation.

    Raises:
        UserError: the file is damaged.
    """
    result = read_json(run_dir / RESULT_FILE, {}, _HINT)
    if result and not isinstance(result.get("scores"), dict):
        raise UserError(f"{run_dir / RESULT_FILE} has no scores; {_HINT}")
    scores: dict[str, float] = result.get("scores", {})
    return scores


def recorded_metric(run_dir: Path) -> float | None:
    """What a search maximises: the mean of a finished run's task scores; None where there are none."""
    scores = read_scores(run_dir)
    return fmean(scores.values()) if scores else None
