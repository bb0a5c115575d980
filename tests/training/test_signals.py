"""What is promised to whoever presses Ctrl-C holds where no handler of Python can run."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from codiemb.stop import Stopped, last_words
from codiemb.training.signals import StopRequest, end_workers, serve_the_trainer
from tests.support.forks import fork, forks, hang, wait_for

AGAIN = "python run_train.py hydra.run.dir=x resume=true"


def listen(stuck_after: float | None, then, rank: str = "0", leaving=None) -> None:
    os.environ["LOCAL_RANK"] = rank
    last_words.prepare(AGAIN)
    request = StopRequest(stuck_after)
    request.listen(leaving)
    os.write(2, b"listening")
    then(request)


@pytest.fixture
def started(tmp_path):
    """Start a fork that listens and then does something; it and its file."""
    with forks(listen, tmp_path / "said", "listening") as start:
        yield start


def hang_now(request: StopRequest) -> None:
    hang()


@pytest.mark.parametrize(("rank", "code"), [("0", 130), ("1", 0)])
def test_ctrl_c_again_stops_at_once_where_the_main_thread_waits_in_c(started, rank, code):
    process, said = started(None, hang_now, rank, lambda reason: os.write(2, f"told: {reason}\n".encode()))
    os.kill(process.pid, signal.SIGINT)
    if rank == "0":
        wait_for(said, "Ctrl-C again stops at once")
    else:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    process.join(10)
    assert process.exitcode == code
    told = said.read_text("utf-8")
    assert "told: stopped at once by a second Ctrl-C, without saving\n" in told
    assert (f"without saving\ncontinue with: {AGAIN}\n" in told) is (rank == "0")
    assert "Traceback" not in told


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_that_a_stuck_step_never_hears_of_ends_the_run_and_says_so(started, signum, code):
    process, said = started(0.7, hang_now)
    os.kill(process.pid, signum)
    process.join(10)
    assert process.exitcode == code
    assert f"stopped by {signum.name} without saving: this step has been stuck for 1 s" in said.read_text()
    assert f"continue with: {AGAIN}" in said.read_text("utf-8")


def work_on(request: StopRequest) -> None:
    """A long evaluation: calls into C that end, with Python between them."""
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        time.sleep(0.1)
    raise SystemExit(7 if request.signum == signal.SIGTERM else 8)


def test_a_step_that_only_takes_long_may_end_and_save(started):
    process, said = started(1.2, work_on)
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == 7
    assert said.read_text("utf-8") == "listening"


def test_a_main_thread_that_can_leaves_by_itself(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    request = StopRequest()
    try:
        request.listen()
        signal.raise_signal(signal.SIGINT)
        assert request.signum == signal.SIGINT
        with pytest.raises(Stopped, match="130") as stop:
            signal.raise_signal(signal.SIGINT)
        assert stop.value.alone
    finally:
        request.close()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert signal.set_wakeup_fd(-1) == -1


def read_and_fall(batches: list[str]) -> None:
    loader = DataLoader(batches, batch_size=None, num_workers=1, worker_init_fn=serve_the_trainer)
    iterator = iter(loader)
    next(iterator)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("utf-8")
    os.write(2, f"worker: {children}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_s_worker_ends_with_its_trainer_also_where_nobody_takes_its_batches(tmp_path):
    trainer = fork(read_and_fall, ["x" * (1 << 20)] * 4, output=tmp_path / "said")
    worker = int(wait_for(tmp_path / "said", "\n").split()[1])
    trainer.join(20)
    deadline = time.monotonic() + 15
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = is_alive(worker)
    if left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def read_and_leave() -> None:
    loader = DataLoader(range(9), num_workers=1, worker_init_fn=serve_the_trainer)
    iterator = iter(loader)
    next(iterator)
    end_workers()
    for worker in multiprocessing.active_children():  # as Python does at exit
        worker.terminate()
        worker.join()


def test_a_trainer_that_leaves_in_the_middle_does_not_wait_for_deaf_workers(tmp_path):
    trainer = fork(read_and_leave, output=tmp_path / "said")
    trainer.join(20)
    trainer.kill()
    assert trainer.exitcode == 0
    assert (tmp_path / "said").read_text("utf-8") == ""


def is_alive(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return False
