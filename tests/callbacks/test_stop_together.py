"""A run that is asked to stop, or meets a fault, loses nothing that was saved."""

import signal
from pathlib import Path
from pickle import UnpicklingError

import pytest
import pytorch_lightning as pl
import torch

from codiemb.data import SourceFile
from codiemb.errors import UserError
from codiemb.stop import Stopped
from codiemb.training.checkpoint_files import committed, last_good
from tests.support.resumed import Killed, StopBefore, assert_same_run, state
from tests.support.tiny_run import DDP, GOLDEN, KNOWN_WARNINGS, TinyRun, two_ranks

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS),
]


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


def test_a_signal_to_one_rank_stops_all_ranks_after_the_same_step(tmp_path):
    class Rank1Only(StopBefore):
        def on_before_backward(self, trainer, pl_module, loss) -> None:
            if trainer.global_rank == 1:
                super().on_before_backward(trainer, pl_module, loss)

    def run() -> None:
        TinyRun(tmp_path / "ranks", Rank1Only(2, signal.SIGINT), steps=6, **DDP).fit()

    for raised in two_ranks(run, tmp_path):
        assert raised.startswith("Stopped: stopped by SIGINT after step 3")
    assert [saved.step for saved in committed(tmp_path / "ranks" / "checkpoints")] == [3]


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
        UserError,
        match=r"training files have changed .*\n  .*: 160 ir examples .* then, 159 ir examples .* now",
    ):
        run.fit(uninterrupted / "checkpoints" / "step-8.ckpt")


def test_a_checkpoint_that_would_run_code_is_not_opened(uninterrupted, tmp_path):
    checkpoint = state(uninterrupted) | {"callbacks": {"x": Path("an object")}}
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        TinyRun(tmp_path / "run").fit(tmp_path / "evil.ckpt")
