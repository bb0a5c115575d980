"""A run that stops anywhere and goes on ends as if it had never stopped: bit by bit."""

import json
import shutil
import signal
from pathlib import Path
from pickle import UnpicklingError

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from tiny_run import DDP, GOLDEN, KNOWN_WARNINGS, TinyRun, two_ranks

from codiemb.checkpoint import committed, last_good
from codiemb.data import SourceFile
from codiemb.data.batches import PlannedBatches
from codiemb.diagnostics import EmbeddingStatistics, GradientCosine
from codiemb.errors import UserError
from codiemb.evaluating import DevMetrics, ProbeSources
from codiemb.nonfinite import NonFiniteSteps
from codiemb.signals import Stopped, StopRequest

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS]


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved or tidied up after it."""


class Seen(pl.Callback):
    """Writes down which queries every optimizer step sees, one file per rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        row = {"step": trainer.global_step, "part": batch_idx, "rank": trainer.global_rank}
        with (self.folder / f"seen-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row | {"queries": batch.query_hash_B.tolist()}) + "\n")

    def by_step(self) -> dict[int, list[int]]:
        files = self.folder.glob("seen-*.jsonl")
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        found: dict[int, list[int]] = {}
        for row in sorted(rows, key=lambda row: (row["part"], row["rank"])):
            found.setdefault(row["step"], []).extend(row["queries"])
        return found


class StopBefore(pl.Callback):
    """Kills the run, or sends it a signal, before a micro-step."""

    def __init__(self, micro_step: int, signum: int = 0) -> None:
        self.micro_step = micro_step
        self.signum = signum

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.fit_loop.batch_idx == self.micro_step:
            if not self.signum:
                raise Killed
            signal.raise_signal(self.signum)


def state(folder: Path) -> dict:
    saved = last_good(folder / "checkpoints")
    assert saved is not None
    return torch.load(saved.path, weights_only=True)


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, optimizer, schedule and every logged value, to the bit."""
    ours, theirs = state(folder), state(other)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert lines(folder) == lines(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "whole"
    TinyRun(folder).fit()
    return folder


def test_dropout_is_on_in_these_runs(uninterrupted, tmp_path):
    run = TinyRun(tmp_path / "no_dropout")
    for module in run.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    run.fit()
    assert lines(tmp_path / "no_dropout") != lines(uninterrupted)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("killed_before", [[0], [4], [11], [2, 5, 6]])
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


@pytest.mark.parametrize("killed_before", [7, 8])  # within and between two optimizer steps
def test_killed_while_gradients_accumulate_the_step_is_done_again(tmp_path, killed_before):
    TinyRun(tmp_path / "whole", steps=6, every_n_steps=1, accumulate_grad_batches=2).fit()
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        TinyRun(folder, StopBefore(killed_before), steps=6, every_n_steps=1, accumulate_grad_batches=2).fit()
    saved = last_good(folder / "checkpoints")
    assert saved.step == killed_before // 2
    TinyRun(folder, steps=6, every_n_steps=1, accumulate_grad_batches=2).fit(saved.path)
    assert_same_run(folder, tmp_path / "whole")


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


@pytest.mark.parametrize("accumulation", [1, 2])
def test_another_number_of_ranks_and_micro_steps_goes_on_with_the_same_data(tmp_path, accumulation):
    whole, parts = Seen(tmp_path / "whole"), Seen(tmp_path / "parts")
    for seen in (whole, parts):
        seen.folder.mkdir()
    TinyRun(tmp_path / "whole", whole, steps=6).fit()
    with pytest.raises(Killed):
        TinyRun(tmp_path / "parts", StopBefore(5), steps=6).fit()
    run = TinyRun(tmp_path / "parts", parts, steps=6, accumulate_grad_batches=accumulation, **DDP)
    saved = tmp_path / "parts" / "checkpoints" / "step-4.ckpt"
    assert two_ranks(lambda: run.fit(saved), tmp_path) == ["", ""]
    expected = whole.by_step()
    assert parts.by_step() == {step: expected[step] for step in (4, 5)}
    assert lines(tmp_path / "parts")[:4] == lines(tmp_path / "whole")[:4]
    assert [line["step"] for line in lines(tmp_path / "parts")] == list(range(6))


def test_two_ranks_killed_and_resumed_end_with_the_weights_of_two_uninterrupted_ranks(tmp_path):
    options = {"steps": 6, "every_n_steps": 2, **DDP}
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


# A request to stop


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_stops_and_the_run_goes_on_from_there(
    uninterrupted, tmp_path, signum, code
):
    folder = tmp_path / "stopped"
    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as stop:
        TinyRun(folder, StopBefore(5, signum)).fit()
    assert signal.getsignal(signum) is before
    assert stop.value.code == code
    saved = last_good(folder / "checkpoints")
    assert saved.step == 6
    assert f"{signum.name} after step 6" in stop.value.message
    assert str(saved.path) in stop.value.message
    TinyRun(folder).fit(saved.path)
    assert_same_run(folder, uninterrupted)


def test_a_signal_in_the_last_step_or_before_the_first_loses_nothing(uninterrupted, tmp_path):
    with pytest.raises(Stopped, match="0"):
        TinyRun(tmp_path / "last", StopBefore(11, signal.SIGTERM)).fit()
    assert_same_run(tmp_path / "last", uninterrupted)


def test_a_second_interrupt_does_not_wait_for_the_save(capfd):
    request = StopRequest()
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        request.listen()
        signal.raise_signal(signal.SIGINT)
        assert request.signum == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_a_signal_to_one_rank_stops_all_ranks_after_the_same_step(tmp_path):
    class Rank1Only(StopBefore):
        def on_before_backward(self, trainer, pl_module, loss) -> None:
            if trainer.global_rank == 1:
                super().on_before_backward(trainer, pl_module, loss)

    def run() -> None:
        TinyRun(tmp_path / "ranks", Rank1Only(2, signal.SIGTERM), steps=6, **DDP).fit()

    for raised in two_ranks(run, tmp_path):
        assert raised.startswith("Stopped: stopped by SIGTERM after step 3")
    assert [saved.step for saved in committed(tmp_path / "ranks" / "checkpoints")] == [3]


# Faults


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_continues_the_run(
    uninterrupted, tmp_path, caplog
):
    folder = tmp_path / "damaged"
    with pytest.raises(Killed):
        TinyRun(folder, StopBefore(9)).fit()
    newest = folder / "checkpoints" / "step-8.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    saved = last_good(folder / "checkpoints")
    assert saved.step == 4
    assert "step-8.ckpt is damaged" in caplog.text
    TinyRun(folder).fit(saved.path)
    assert_same_run(folder, uninterrupted)


class FillDisk(pl.Callback):
    """From a step on, /dev/full stands where the checkpoint is written: the kernel says ENOSPC."""

    def __init__(self, folder: Path, step: int) -> None:
        self.partial = folder / "checkpoints" / f"step-{step}.partial.partial"
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            self.partial.symlink_to("/dev/full")


def test_a_full_disk_is_an_error_that_names_it_and_keeps_the_last_good_checkpoint(tmp_path):
    folder = tmp_path / "full"
    with pytest.raises(UserError, match=r"step 8 was not saved: the disk mounted at /.* is full") as error:
        TinyRun(folder, FillDisk(folder, 8)).fit()
    assert str(folder / "checkpoints" / "step-4.ckpt") in str(error.value)
    assert_only_step_4_is_left(folder)


def test_a_full_disk_of_rank_0_stops_the_other_ranks_too(tmp_path):
    folder = tmp_path / "full"
    raised = two_ranks(lambda: TinyRun(folder, FillDisk(folder, 8), **DDP).fit(), tmp_path)
    assert raised[0].startswith("UserError: the checkpoint of step 8 was not saved: the disk mounted at /")
    assert raised[1].startswith("UserError: the checkpoint of step 8 was not saved: another rank")
    assert_only_step_4_is_left(folder)


def assert_only_step_4_is_left(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step-4.ckpt", "step-4.json"]
    assert last_good(folder / "checkpoints").step == 4


def test_changed_training_files_are_refused(uninterrupted, tmp_path):
    run = TinyRun(tmp_path / "changed")
    lines = (GOLDEN / "ir.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "ir.jsonl").write_text("".join(lines[:-1]), "utf-8")
    run.data.files = [SourceFile("ir", tmp_path / "ir.jsonl"), run.data.files[1]]
    with pytest.raises(
        UserError, match=r"training files have changed .*\n  .*: 160 ir examples then, 159 ir examples now"
    ):
        run.fit(uninterrupted / "checkpoints" / "step-8.ckpt")


def test_a_checkpoint_that_would_run_code_is_not_opened(uninterrupted, tmp_path):
    checkpoint = state(uninterrupted) | {"callbacks": {"x": Path("an object")}}
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        TinyRun(tmp_path / "run").fit(tmp_path / "evil.ckpt")


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


@pytest.mark.parametrize(
    ("signum", "at"), [(0, 3), (0, 6), (0, 10), (signal.SIGTERM, 2), (signal.SIGTERM, 7)]
)
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
