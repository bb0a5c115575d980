"""Experiments as lists of run_train.py commands: in fixed folders, finished ones skipped, others resumed.

Some may run beside each other: a training run of a small model does not keep two cores busy, two runs do.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
    minutes: float  # expected on its share of two cores: for the time left
    sweep: bool = False
    needs: tuple[str, ...] = ()  # names of the steps that it can only start after

    def command(self) -> list[str]:
        """What a user types, so that a log names something that can be repeated."""
        place = f"hydra.{'sweep' if self.sweep else 'run'}.dir={self.folder}"
        return ["run_train.py", *(["-m"] if self.sweep else []), *self.overrides, place, "resume=true"]

    @property
    def log(self) -> Path:
        """Where its output goes, beside its folder."""
        return ROOT / self.folder.with_name(self.folder.name + ".log")

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


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """What run_steps can be told about the machine."""
    parser.add_argument("--accelerator", default="cpu", help="trainer.accelerator of all runs (cpu)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs beside each other (1)")


def run_steps(
    steps: Sequence[Step],
    after: Callable[[Step], None] | None = None,
    *,
    at_once: int = 1,
    accelerator: str = "cpu",
) -> None:
    """Run what has not finished; a line at start and end of each, with the time left.

    Args:
        steps: those that others need before those others. Of two that could start, the first does.
        after: called with each step once it has finished, now or before: to show where things stand.
        at_once: how many may run beside each other, each on its share of the cores.
        accelerator: that all run on, where it is not that which the steps name themselves.

    Raises:
        SystemExit: a command failed; its last lines are printed once the commands beside it have ended, and
            the next call goes on from there.
    """
    if accelerator != "cpu":
        steps = [
            each._replace(overrides=[*each.overrides, f"trainer.accelerator={accelerator}"]) for each in steps
        ]
    waiting, done = list(steps), set[str]()
    running: dict[Future[float], Step] = {}
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            ready = [step for step in waiting if done.issuperset(step.needs)]
            if ready and len(running) < at_once:
                step = ready[0]
                waiting.remove(step)
                if not step.has_finished():
                    left = sum(each.minutes for each in (step, *waiting, *running.values())) / at_once
                    place = f"step {steps.index(step) + 1} of {len(steps)}, about {left:.0f} min left"
                    _say(f"{step.name}: {place}; output: {step.log}")
                    running[pool.submit(_run, step, at_once)] = step
                    continue
                _say(f"{step.name}: finished before, {step.folder}")
            else:
                future = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
                step = running.pop(future)
                if (error := future.exception()) is not None:
                    _say(f"{step.name}: failed{', the others are ending' if running else ''}")
                    raise error
                _say(f"{step.name}: {future.result() / 60:.1f} min")
            done.add(step.name)
            if after is not None:
                after(step)


def _run(step: Step, at_once: int) -> float:
    """Run one command to its end; how many seconds it took."""
    started = time.perf_counter()
    step.log.parent.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))} if at_once > 1 else {}
    with step.log.open("a", encoding="utf-8") as file:
        code = subprocess.run(
            [sys.executable, *step.command()],
            cwd=ROOT,
            env=threads | os.environ,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code or not step.has_finished():
        tail = step.log.read_text("utf-8", errors="replace").splitlines()[-_TAIL:]
        failed = f"{step.name} failed (exit code {code}): python {' '.join(step.command())}"
        sys.exit("\n".join([failed, *tail]))
    return time.perf_counter() - started


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()
