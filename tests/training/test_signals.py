"""What is promised to whoever presses Ctrl-C holds where no handler of Python can run."""

import os
import signal
import time

import pytest

from codiemb.training.signals import Stopped, StopRequest, last_words
from tests.support.forks import fork, hang, wait_for

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
    processes = []

    def start(*arguments):
        processes.append(fork(listen, *arguments, output=tmp_path / "said"))
        wait_for(tmp_path / "said", "listening")
        return processes[-1], tmp_path / "said"

    yield start
    for process in processes:
        process.kill()
        process.join()


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
