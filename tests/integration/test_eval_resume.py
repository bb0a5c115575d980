"""An evaluation ended by SIGTERM or Ctrl-C, alone or around training, ends as if nothing had been."""

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


TRAINING = (
    *MODEL,
    "max_steps=2",
    "tasks.ir.global_batch_size=16",
    "tasks.sts.global_batch_size=16",
    "data.num_workers=0",
    "callbacks.probe=null",
    "logger=local",
    "hydra.run.dir=outputs/finetune/around",
)


def stopped_after(
    world: Path,
    start_of_line: str,
    *overrides: str,
    by: Sequence[int] = (signal.SIGTERM,),
    script: str = "run_eval.py",
) -> tuple[int, str]:
    """Send signals to the group, as a terminal does, when the line appears; the exit code and stderr."""
    started = start_fork(world, world / "said", script, *overrides)
    try:
        wait_for(started.stdout, f"\n{start_of_line}", seconds=100)
        for signum in by:
            os.killpg(started.process.pid, signum)
            time.sleep(0.05)
        done = started.finished(60)
    finally:
        started.process.kill()
    return done.returncode, done.stderr


def results(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
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
    left = results(folder / "results.json")
    assert len(left["results"]) + len(left["pending"]) == 3
    assert 1 <= len(left["results"]) < 3

    refused = run("run_eval.py", *MODEL, "hydra.run.dir=outputs/eval/terminated")
    assert refused.returncode == 2
    assert "results.json is there already: resume=true goes on" in refused.stderr
    assert results(folder / "results.json") == left
    twice = (signal.SIGINT, signal.SIGINT)  # in the middle of the next task, by an impatient hand
    code, said = stopped_after(world, "kept: ", *MODEL, "resume=true", by=twice)  # finds the folder itself
    assert code == 130
    assert said.endswith(f"stopped by SIGINT\ncontinue with: {how} resume=true\n")
    assert results(folder / "results.json")["results"][:1] == left["results"][:1]
    resumed = run("run_eval.py", *MODEL, "resume=true")
    assert resumed.returncode == 0, resumed.stderr
    assert f"kept: {left['results'][0]['task']} " in resumed.stdout
    whole = run("run_eval.py", *MODEL, "hydra.run.dir=outputs/eval/whole")
    assert whole.returncode == 0, whole.stderr
    assert results(folder / "results.json") == results(world / "outputs/eval/whole/results.json")
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    assert len(environment["earlier"]) == 2


def test_training_that_is_stopped_in_the_evaluations_around_it_ends_as_one_that_was_not(
    run: Run, world: Path
) -> None:
    folder = world / "outputs/finetune/around"
    assert stopped_after(world, "[1/3]", *TRAINING, script="run_train.py")[0] == 143
    assert not (folder / "checkpoints").exists()
    kept = results(folder / "evaluation/before.json")
    again = (*TRAINING, "resume=true")  # with the first task of those before kept, [1/3] is after training
    code, said = stopped_after(world, "[1/3]", *again, by=(signal.SIGINT,), script="run_train.py")
    assert code == 130
    assert said.endswith(f"hydra.run.dir={folder} resume=true\n")
    before = results(folder / "evaluation/before.json")
    assert before["results"][:1] == kept["results"][:1]
    assert not (folder / "result.json").exists()
    resumed = run("run_train.py", *again)
    assert resumed.returncode == 0, resumed.stderr
    other = folder.with_name("around_whole")
    whole = run("run_train.py", *TRAINING[:-1], f"hydra.run.dir={other}")
    assert whole.returncode == 0, whole.stderr
    for name in ("before", "results"):
        file = f"evaluation/{name}.json"
        assert results(folder / file)["results"] == results(other / file)["results"]
    ends = [json.loads((f / "result.json").read_text("utf-8")) for f in (folder, other)]
    assert ends[0]["scores"] == ends[1]["scores"]
