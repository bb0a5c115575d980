"""Experiments as lists of run_train.py commands: in fixed folders, finished ones skipped, others resumed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codiemb.config.result import RESULT_FILE, has_result

ROOT = Path(__file__).parents[1]
_TAIL = 15  # lines of a failed command's log that are shown


class Step(NamedTuple):
    """One run, or one sweep (`-m`), of run_train.py."""

    name: str
    folder: Path  # of the run or of the sweep, relative to the repository
    overrides: Sequence[str]
    minutes: float  # expected on two cores: for the time left
    sweep: bool = False

    def command(self) -> list[str]:
        """What a user types, so that a log names something that can be repeated."""
        place = f"hydra.{'sweep' if self.sweep else 'run'}.dir={self.folder}"
        return ["run_train.py", *(["-m"] if self.sweep else []), *self.overrides, place, "resume=true"]

    def has_finished(self) -> bool:
        """Whether all of its jobs have left a result."""
        if not self.sweep:
            return has_result(ROOT / self.folder)
        table = ROOT / self.folder / "sweep.json"
        return table.is_file() and all(job["finished"] for job in json.loads(table.read_text("utf-8")))

    def results(self) -> list[dict[str, Any]]:
        """`result.json` of the run, or of all jobs of the sweep: scores and seconds."""
        pattern = f"*/{RESULT_FILE}" if self.sweep else RESULT_FILE
        return [json.loads(file.read_text("utf-8")) for file in sorted((ROOT / self.folder).glob(pattern))]

    def seconds(self) -> float:
        """What its finished jobs took, all together."""
        return float(sum(result["seconds"] for result in self.results()))


def run_steps(steps: Sequence[Step], after: Callable[[Step], None] | None = None) -> None:
    """Run what has not finished, in order; a line at start and end of each, with the time left.

    Args:
        steps: in the order of their dependencies.
        after: called with each step once it has finished, now or before: to show where things stand.

    Raises:
        SystemExit: a command failed; its last lines are printed, and the next call goes on from there.
    """
    for number, step in enumerate(steps):
        if step.has_finished():
            _say(f"{step.name}: finished before, {step.folder}")
        else:
            left = sum(later.minutes for later in steps[number:] if not later.has_finished())
            log = ROOT / step.folder.with_name(step.folder.name + ".log")
            _say(f"{step.name}: step {number + 1} of {len(steps)}, about {left:.0f} min left; output: {log}")
            started = time.perf_counter()
            _run(step, log)
            _say(f"{step.name}: {(time.perf_counter() - started) / 60:.1f} min")
        if after is not None:
            after(step)


def _run(step: Step, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run(
            [sys.executable, *step.command()], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code or not step.has_finished():
        tail = log.read_text("utf-8", errors="replace").splitlines()[-_TAIL:]
        failed = f"{step.name} failed (exit code {code}): python {' '.join(step.command())}"
        sys.exit("\n".join([failed, *tail]))


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()
