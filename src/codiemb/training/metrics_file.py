"""The JSON-lines files of a run: appended to as it goes, cut back where it goes on from a checkpoint."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from codiemb.atomic import sync
from codiemb.errors import UserError
from codiemb.json_files import numbered_lines


def keep_lines(path: Path, *, before: int, size: int = 0) -> None:
    """Keep the lines of the steps before `before`, and all in the first `size` bytes; no half-written one.

    Raises:
        UserError: a whole line is no JSON object with a step.
    """
    if not path.is_file():
        return
    kept, end = [], 0
    for number, line in numbered_lines(path):
        end += len(line)
        # each is looked at, also where all stay: the report at the end would stop at a damaged one
        if line.endswith(b"\n") and (_step(line, f"{path}:{number}") < before or end <= size):
            kept.append(line)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(b"".join(kept))
    sync(partial)
    os.replace(partial, path)


def _step(line: bytes, place: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{place}: damaged: not a JSON object with a step; delete the line, and resume again"
        ) from error


class JsonlLogger(Logger):
    """Appends one JSON object per logging call to `metrics.jsonl`: greppable, crash-safe, no server.

    A new run starts a new file; `go_on_from` continues one.

    Args:
        save_dir: folder of the file; that of the run.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._path = Path(save_dir) / "metrics.jsonl"
        self._started = False
        self._pending: Mapping[str, float] = {}

    @property
    @override
    def name(self) -> str:
        """Lightning asks every logger for a name."""
        return "jsonl"

    @property
    @override
    def version(self) -> str:
        """One file per run folder."""
        return "0"

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def go_on_from(self, step: int, size: int, pending: Mapping[str, float]) -> None:
        """Drop the lines that a run going on after `step` steps writes again, or has half written.

        Args:
            step: optimizer steps done; the line of a step carries its number, from 0.
            size: of the file at the end of the last step: what was written up to there stays.
            pending: logged since the last training line, for the next one.
        """
        self._started, self._pending = True, pending
        keep_lines(self._path, before=step, size=size)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run folder already holds the resolved config."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "epoch" in metrics:  # Lightning's line of a training step
            metrics, self._pending = {**self._pending, **metrics}, {}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a" if self._started else "w", encoding="utf-8") as file:
            self._started = True
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")
