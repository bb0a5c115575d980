"""run_train.py is killed with SIGKILL and SIGTERM, as a cluster does it, and goes on with resume=true."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.forks import wait_for
from tests.support.harness import MICRO, UNEVALUATED, Finished, Run, start_fork

pytestmark = pytest.mark.slow

STEPS = 40
SMALL = (
    *(option for option in MICRO if option != "data.num_workers=0"),
    "model=bert_tiny",
    "model.architecture.hidden_dropout_prob=0.1",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoint.every_n_steps=7",
    "export.enabled=false",
)
LONG = (*SMALL, *UNEVALUATED, f"max_steps={STEPS}")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """All logged lines but for time and speed."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith("perf/")} for row in rows]


def final_state(folder: Path, steps: int = STEPS) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints" / f"step-{steps}.ckpt", weights_only=True)
    return {part: checkpoint[part] for part in ("state_dict", "optimizer_states", "lr_schedulers")}


def kill_at(world: Path, folder: str, step: int, signum: int, *overrides: str) -> Finished:
    """Start a run in a process group of its own and send the whole group a signal once it logs a step."""
    log = world / folder / "metrics.jsonl"
    options = (*LONG, f"hydra.run.dir={folder}", *overrides)
    started = start_fork(world, world / "said", "run_train.py", *options)
    try:
        wait_for(log, f'"step": {step}', seconds=200)
    except AssertionError:
        pytest.fail(started.stderr.read_text("utf-8"))
    os.killpg(started.process.pid, signum)
    return started.finished(60)


def test_killed_and_preempted_a_run_ends_as_if_it_had_never_stopped(run: Run, world: Path) -> None:
    whole = run("run_train.py", *LONG, "data.num_workers=0", "hydra.run.dir=outputs/resume/whole")
    assert whole.returncode == 0, whole.stderr
    folder = "outputs/resume/killed"
    draw = random.Random(time.time_ns())
    first = draw.randrange(8, 20)
    second = draw.randrange(first + 5, STEPS - 10)  # the kill comes some steps late
    where = f"killed at {first}, preempted at {second}"

    killed = kill_at(world, folder, first, signal.SIGKILL, "data.num_workers=2")
    assert killed.returncode == -signal.SIGKILL, where
    stopped = kill_at(world, folder, second, signal.SIGTERM, "data.num_workers=0", "resume=true")
    assert stopped.returncode == 0, stopped.stderr
    assert "after step" in stopped.stdout, where
    assert "Traceback" not in stopped.stderr
    assert f"saved {world / folder}/checkpoints/step-" in stopped.stderr, where
    assert f"hydra.run.dir={world / folder} resume=true" in stopped.stderr, where

    last = run("run_train.py", *LONG, "data.num_workers=0", f"hydra.run.dir={folder}", "resume=true")
    assert last.returncode == 0, last.stderr
    assert metrics(world / folder) == metrics(world / "outputs/resume/whole"), where
    whole_state = final_state(world / "outputs/resume/whole")
    torch.testing.assert_close(final_state(world / folder), whole_state, rtol=0, atol=0, msg=where)

    again = run("run_train.py", *LONG, "data.num_workers=0", f"hydra.run.dir={folder}", "resume=true")
    assert again.returncode == 0
    assert "has finished" in again.stdout


def without_before(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.startswith("before/")} for row in rows]


def test_the_evaluation_before_training_is_kept_and_shown_after_a_resume(run: Run, world: Path) -> None:
    options = (
        *SMALL,
        "max_steps=9",
        "data.num_workers=0",
        "task.split=dev",
        "task.tasks=[FramesSTS]",
        "hydra.run.dir=outputs/finetune/evaluated",
    )
    whole = run("run_train.py", *options)
    assert whole.returncode == 0, whole.stderr
    folder = world / "outputs/finetune/evaluated"
    expected, weights = metrics(folder), final_state(folder, 9)
    scores = json.loads((folder / "result.json").read_text("utf-8"))["scores"]
    # as if killed at step 8: the result and the last checkpoint are not there yet
    for name in ("result.json", "checkpoints/step-9.ckpt", "checkpoints/step-9.json"):
        (folder / name).unlink()
    before = json.loads((folder / "evaluation/before.json").read_text("utf-8"))
    before["results"][0]["score"] = 0.1234  # to recognise it
    (folder / "evaluation/before.json").write_text(json.dumps(before), "utf-8")

    resumed = run("run_train.py", *options[:-1], "stage=finetune", "resume=true")  # finds the folder itself
    assert resumed.returncode == 0, resumed.stderr
    assert "evaluated after step 7" in resumed.stdout
    assert "12.34" in resumed.stdout
    assert json.loads((folder / "result.json").read_text("utf-8"))["scores"] == scores
    assert without_before(metrics(folder)) == without_before(expected)
    torch.testing.assert_close(final_state(folder, 9), weights, rtol=0, atol=0)


def test_another_seed_or_an_occupied_folder_is_one_clear_error(run: Run, world: Path) -> None:
    options = (
        *SMALL,
        *UNEVALUATED,
        "data.num_workers=0",
        "max_steps=7",
        "hydra.run.dir=outputs/resume/twice",
    )
    assert run("run_train.py", *options).returncode == 0
    again = run("run_train.py", *options)
    assert again.returncode == 2
    assert "holds a run already" in again.stderr
    (world / "outputs/resume/twice/result.json").unlink()
    other = run("run_train.py", *options, "resume=true", "seed=1")
    assert other.returncode == 2
    assert "seed: 49 then, 1 now" in other.stderr
    assert "Traceback" not in other.stderr
