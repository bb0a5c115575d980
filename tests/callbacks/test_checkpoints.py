"""A run that stops anywhere and goes on ends as if it had never stopped: bit by bit."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor

from codiemb.callbacks.gradient_cosine import GradientCosine
from codiemb.callbacks.looks import DevMetrics, ProbeSources
from codiemb.callbacks.nonfinite import NonFiniteSteps
from codiemb.callbacks.statistics import EmbeddingStatistics
from codiemb.data.batches import PlannedBatches
from codiemb.stop import Stopped
from codiemb.training.checkpoint_files import committed, last_good
from tests.support.resumed import Killed, StopBefore, assert_same_run, lines, state
from tests.support.tiny_run import DDP, KNOWN_WARNINGS, TinyRun, two_ranks

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS),
]


class Seen(pl.Callback):
    """Writes down which queries every optimizer step sees, one file per rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        row = {"step": trainer.global_step, "part": batch_idx, "rank": trainer.global_rank}
        with (self.folder / f"seen-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row | {"queries": batch.groups.query_hash_B.tolist()}) + "\n")

    def by_step(self) -> dict[int, list[int]]:
        files = self.folder.glob("seen-*.jsonl")
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        found: dict[int, list[int]] = {}
        for row in sorted(rows, key=lambda row: (row["part"], row["rank"])):
            found.setdefault(row["step"], []).extend(row["queries"])
        return found


def test_dropout_is_on_in_these_runs(uninterrupted, tmp_path):
    run = TinyRun(tmp_path / "no_dropout")
    for module in run.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    run.fit()
    assert lines(tmp_path / "no_dropout") != lines(uninterrupted)


@pytest.mark.parametrize(("killed_before", "num_workers"), [([0], 2), ([4], 0), ([11], 0), ([2, 5, 6], 2)])
def test_killed_anywhere_a_run_ends_with_the_weights_optimizer_and_metrics_of_an_uninterrupted_one(
    uninterrupted, tmp_path, killed_before, num_workers
):
    folder = tmp_path / "killed"
    for step in killed_before:
        saved = last_good(folder / "checkpoints")
        with pytest.raises(Killed):
            TinyRun(folder, StopBefore(step), num_workers=num_workers).fit(saved and saved.path)
    saved = last_good(folder / "checkpoints")
    assert (saved.step if saved else 0) == max(killed_before) // 4 * 4
    TinyRun(folder, num_workers=num_workers).fit(saved and saved.path)
    assert_same_run(folder, uninterrupted)


ACCUMULATED = {"steps": 6, "every_n_steps": 1, "accumulate_grad_batches": 2, "log_every_n_steps": 3}


@pytest.fixture(scope="module")
def uninterrupted_accumulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accumulated") / "whole"
    TinyRun(folder, **ACCUMULATED).fit()
    return folder


@pytest.mark.parametrize("killed_before", [7, 8, 11])  # between two steps and within one, of a line
def test_killed_while_gradients_accumulate_the_step_is_done_again(
    uninterrupted_accumulated, tmp_path, killed_before
):
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        TinyRun(folder, StopBefore(killed_before), **ACCUMULATED).fit()
    saved = last_good(folder / "checkpoints")
    assert saved.step == killed_before // 2
    TinyRun(folder, **ACCUMULATED).fit(saved.path)
    assert_same_run(folder, uninterrupted_accumulated)


def test_nothing_before_the_checkpoint_is_read_again(tmp_path, monkeypatch):
    TinyRun(tmp_path / "run", steps=8).fit()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-8.ckpt", ignore_errors=True)
    read = []
    get = PlannedBatches.__getitem__
    monkeypatch.setattr(PlannedBatches, "__getitem__", lambda self, i: read.append(i) or get(self, i))
    TinyRun(tmp_path / "run", steps=8).fit(tmp_path / "run" / "checkpoints" / "step-4.ckpt")
    assert read == [4, 5, 6, 7]


def test_resuming_after_the_last_step_trains_no_further(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "ended")
    before = lines(tmp_path / "ended")
    run = TinyRun(tmp_path / "ended", StopBefore(12))
    run.fit(tmp_path / "ended" / "checkpoints" / "step-12.ckpt")
    assert run.trainer.global_step == 12
    assert lines(tmp_path / "ended") == before
    weights = state(uninterrupted)["state_dict"]
    torch.testing.assert_close(run.module.state_dict(), weights, rtol=0, atol=0)


def test_another_number_of_ranks_and_micro_steps_goes_on_with_the_same_data(tmp_path):
    whole, parts = Seen(tmp_path / "whole"), Seen(tmp_path / "parts")
    for seen in (whole, parts):
        seen.folder.mkdir()
    TinyRun(tmp_path / "whole", whole, steps=6).fit()
    with pytest.raises(Killed):
        TinyRun(tmp_path / "parts", StopBefore(5), steps=6).fit()
    run = TinyRun(tmp_path / "parts", parts, steps=6, accumulate_grad_batches=2, **DDP)
    saved = tmp_path / "parts" / "checkpoints" / "step-4.ckpt"
    assert two_ranks(lambda: run.fit(saved), tmp_path) == ["", ""]
    expected = whole.by_step()
    assert parts.by_step() == {step: expected[step] for step in (4, 5)}
    assert lines(tmp_path / "parts")[:4] == lines(tmp_path / "whole")[:4]
    assert [line["step"] for line in lines(tmp_path / "parts")] == list(range(6))


def test_two_ranks_killed_and_resumed_end_with_the_weights_of_two_uninterrupted_ranks(tmp_path):
    options = {"steps": 6, "every_n_steps": 2, "log_every_n_steps": 3, **DDP}
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert two_ranks(lambda: TinyRun(whole, **options).fit(), tmp_path) == ["", ""]
    raised = two_ranks(lambda: TinyRun(folder, StopBefore(5), **options).fit(), tmp_path)
    assert all(message.startswith("Killed") for message in raised)
    saved = last_good(folder / "checkpoints")
    assert saved.step == 4
    assert two_ranks(lambda: TinyRun(folder, **options).fit(saved.path), tmp_path) == ["", ""]
    assert_same_run(folder, whole)


def test_checkpoints_come_by_the_clock_too(tmp_path):
    run = TinyRun(tmp_path / "run", steps=3, every_n_steps=1000)
    run.trainer.checkpoint_callback.every_n_minutes = 0.0  # always late
    run.fit()
    assert [saved.step for saved in committed(tmp_path / "run" / "checkpoints")] == [2, 3]


# What other callbacks write
def watched(folder: Path, *callbacks: pl.Callback) -> TinyRun:
    """A run whose lines hold five steps each, with everything that looks at a run while it trains."""
    watching = (
        ProbeSources(num_records=16, every_n_steps=6),
        DevMetrics(lambda encoder: {"Norm/x": float(next(encoder.parameters()).detach().norm())}, 3),
        EmbeddingStatistics(),
        GradientCosine(1000),
        NonFiniteSteps(),
        LearningRateMonitor("step"),
    )
    return TinyRun(folder, *watching, *callbacks, every_n_steps=6, log_every_n_steps=5)


@pytest.fixture(scope="module")
def uninterrupted_watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched") / "whole"
    watched(folder).fit()
    return folder


@pytest.mark.parametrize(("signum", "at"), [(0, 3), (0, 10), (signal.SIGTERM, 7)])
def test_lines_of_several_steps_and_looks_at_the_run_are_those_of_an_uninterrupted_one(
    uninterrupted_watched, tmp_path, signum, at
):
    folder = tmp_path / "killed"
    with pytest.raises((Killed, Stopped)):
        watched(folder, StopBefore(at, signum)).fit()
    saved = last_good(folder / "checkpoints")
    watched(folder).fit(saved and saved.path)
    assert_same_run(folder, uninterrupted_watched)
    probes = [(path / "probe.jsonl").read_text("utf-8") for path in (folder, uninterrupted_watched)]
    assert probes[0] == probes[1]


def test_a_run_killed_while_it_is_looked_at_after_its_last_step_is_looked_at_once(
    uninterrupted_watched, tmp_path
):
    class KillAtEnd(pl.Callback):
        def on_train_end(self, trainer, pl_module) -> None:
            raise Killed

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        watched(folder, KillAtEnd()).fit()
    saved = last_good(folder / "checkpoints")
    assert saved.step == 12
    watched(folder).fit(saved.path)
    assert_same_run(folder, uninterrupted_watched)


def test_a_line_holds_what_was_logged_since_the_line_before_it(uninterrupted_watched):
    training = [line for line in lines(uninterrupted_watched) if "epoch" in line]
    assert [line["step"] for line in training] == [4, 9]
    run = watched(uninterrupted_watched.parent / "plan")
    run.data.prepare_data()
    run.data.setup()
    for first, line in zip((0, 5), training, strict=True):
        tasks = {run.data.sources[run.data.plan[step].source].task for step in range(first, first + 5)}
        assert {task for task in ("ir", "sts") if f"train/loss/{task}" in line} == tasks
