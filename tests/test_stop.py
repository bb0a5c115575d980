"""Outside of the training loop the first SIGTERM or Ctrl-C ends a process, wherever its main thread is."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codiemb import stop
from codiemb.stop import AtOnce, Stopped, last_words
from tests.support.forks import forks, hang
from tests.support.paths import ROOT

AGAIN = "python run_train.py hydra.run.dir=x resume=true"


def listen_and(then: Callable[[], None], job: bool, rank: str = "0") -> None:
    os.environ["LOCAL_RANK"] = rank
    stop._SECONDS_TO_HEAR = stop._SECONDS_TO_LEAVE = 0.3
    at_once = AtOnce()
    at_once.before_leaving = lambda: os.write(2, b"put away\n")
    at_once.listen()
    last_words.prepare(AGAIN if job else "")
    if not job:
        then()
    with at_once.in_job():
        then()


def import_for_long() -> None:
    os.write(2, b"ready\n")
    time.sleep(30)


def wait_in_c() -> None:
    # said by another thread: a signal before the wait has begun would run its handler, as in Python code
    threading.Timer(0.3, os.write, (2, b"ready\n")).start()
    hang()


def work() -> None:
    try:
        import_for_long()
    except Stopped as stopped:
        last_words.say(f"raised: {stopped.message}")
        raise


def heed_nothing() -> None:
    try:
        import_for_long()
    except BaseException:
        time.sleep(30)


@pytest.fixture
def start(tmp_path: Path):
    """Start a fork that listens and does something; it and its file, once it does it."""
    with forks(listen_and, tmp_path / "said", "ready") as started:
        yield started


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("then", "job", "said"),
    [
        (import_for_long, False, "before anything was done: the same command starts it\nput away\n"),
        (wait_in_c, False, "before anything was done: the same command starts it\nput away\n"),
        (work, True, f"\ncontinue with: {AGAIN}\n"),
        (wait_in_c, True, f"\ncontinue with: {AGAIN}\nput away\n"),
        (heed_nothing, True, f"\ncontinue with: {AGAIN}\nput away\n"),
    ],
)
def test_the_first_signal_ends_the_process_and_says_how_to_go_on(start, signum, code, then, job, said):
    process, file = start(then, job)
    os.kill(process.pid, signum)
    process.join(10)
    assert process.exitcode == code
    told = file.read_text("utf-8")
    assert f"stopped by {signum.name}" in told
    assert told.endswith(said)
    assert ("raised:" in told) is (then is work)
    assert "Traceback" not in told


def test_another_rank_leaves_without_a_word_and_without_an_error(start):
    process, file = start(import_for_long, False, "1")
    os.kill(process.pid, signal.SIGINT)
    process.join(10)
    assert process.exitcode == 0
    assert file.read_text("utf-8") == "ready\nput away\n"


def fork_a_worker() -> None:
    worker = os.fork()
    if worker == 0:
        import_for_long()
    os.waitpid(worker, 0)
    os._exit(7)


def test_a_forked_worker_dies_of_signals_silently_and_its_parent_hears_nothing_of_them(start):
    process, file = start(fork_a_worker, True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    os.kill(int(children.read_text("utf-8")), signal.SIGINT)
    process.join(10)
    assert process.exitcode == 7
    assert file.read_text("utf-8") == "ready\n"


@pytest.mark.parametrize("script", ["run_train.py", "run_eval.py"])
def test_a_script_listens_from_its_first_line_on(script):
    process = subprocess.Popen(
        [sys.executable, script], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until_it_listens(process.pid)
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text("utf-8")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said == "\nstopped by SIGINT before anything was done: the same command starts it\n"


def wait_until_it_listens(process: int) -> None:
    """For SIGTERM: Python itself catches SIGINT."""
    deadline = time.monotonic() + 30
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):
        assert time.monotonic() < deadline
        time.sleep(0.005)
        status = Path(f"/proc/{process}/status").read_text("utf-8")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)


def test_in_the_middle_of_a_job_an_import_is_no_place_for_an_exception() -> None:
    at_once = AtOnce()
    with at_once.in_job():
        with at_once.importing():
            assert not at_once._in_job
        assert at_once._in_job
