"""run_eval.py is ended by SIGTERM and by Ctrl-C, and ends as if nothing had been."""

import json
import os
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.forks import wait_for
from tests.support.harness import Run, start_fork
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow
MODEL = (
    "model=youtu_tiny",
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "task=nano",
    "task.tasks=[NanoFramesSTS,NanoFramesPairClassification,NanoFramesReranking]",
    "task.split=dev",
    "task.baseline=false",
)


def stopped_after(
    world: Path, start_of_line: str, *overrides: str, by: Sequence[int] = (signal.SIGTERM,)
) -> tuple[int, str]:
    """Send signals to the group, as a terminal does, when the line appears; the exit code and stderr."""
    started = start_fork(world, world / "said", "run_eval.py", *overrides)
    try:
        wait_for(started.stdout, f"\n{start_of_line}", seconds=100)
        for signum in by:
            os.killpg(started.process.pid, signum)
            time.sleep(0.05)
        done = started.finished(60)
    finally:
        started.process.kill()
    return done.returncode, done.stderr


def results(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "results.json").read_text("utf-8"))
    for row in record["results"]:
        del row["seconds"]
    return record


def test_a_terminated_evaluation_says_how_to_go_on_and_ends_as_one_that_was_not(
    run: Run, world: Path
) -> None:
    folder = world / "outputs/eval/terminated"
    code, said = stopped_after(world, "[1/3]", *MODEL, "hydra.run.dir=outputs/eval/terminated")
    assert code == 143
    how = f"python {ROOT / 'run_eval.py'} {shlex.join(MODEL)} hydra.run.dir={folder}"
    assert said.endswith(f"stopped by SIGTERM\ncontinue with: {how} resume=true\n")
    assert "\r" not in said  # no bar where there is no terminal
    left = results(folder)
    assert len(left["results"]) + len(left["pending"]) == 3
    assert 1 <= len(left["results"]) < 3

    refused = run("run_eval.py", *MODEL, "hydra.run.dir=outputs/eval/terminated")
    assert refused.returncode == 2
    assert "results.json is there already: resume=true goes on" in refused.stderr
    assert results(folder) == left
    twice = (signal.SIGINT, signal.SIGINT)  # in the middle of the next task, by an impatient hand
    code, said = stopped_after(world, "kept: ", *MODEL, "resume=true", by=twice)  # finds the folder itself
    assert code == 130
    assert said.endswith(f"stopped by SIGINT\ncontinue with: {how} resume=true\n")
    assert results(folder)["results"][:1] == left["results"][:1]
    resumed = run("run_eval.py", *MODEL, "resume=true")
    assert resumed.returncode == 0, resumed.stderr
    assert f"kept: {left['results'][0]['task']} " in resumed.stdout
    whole = run("run_eval.py", *MODEL, "hydra.run.dir=outputs/eval/whole")
    assert whole.returncode == 0, whole.stderr
    assert results(folder) == results(world / "outputs/eval/whole")
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    assert len(environment["earlier"]) == 2
