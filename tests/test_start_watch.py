"""Ranks that are killed, end or are frozen before they can talk to each other."""

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codiemb import start_watch
from codiemb.start_watch import ChildWatch, ParentWatch
from tests.support.forks import fork, hang, wait_for
from tests.support.paths import ROOT

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def rank():
    """A process that stands for rank 1."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("signum", "fault"),
    [
        (signal.SIGKILL, "was killed by SIGKILL"),
        (signal.SIGSTOP, "has been frozen for 0.4 s"),
    ],
)
def test_a_rank_that_is_lost_before_the_ranks_can_talk_is_named(rank, monkeypatch, signum, fault):
    monkeypatch.setattr(start_watch, "_SECONDS", 0.1)
    monkeypatch.setattr(start_watch, "_SECONDS_TO_LEAVE", 0.1)
    monkeypatch.setenv("CODIEMB_STARTED_BY", "")
    told: queue.Queue[str] = queue.Queue()
    watch = ChildWatch(lambda: [rank], 0.4, told.put)
    with pytest.raises(queue.Empty):
        told.get(timeout=0.7)
    os.kill(rank.pid, signum)
    assert told.get(timeout=20) == f"rank 1 (process {rank.pid}) {fault} before the ranks could talk"
    watch.stop()


def start_a_rank_and_fall(tmp_path: Path, signum: int) -> None:
    os.environ.pop("TORCHELASTIC_RUN_ID", None)
    start_watch._SECONDS = 0.1
    os.environ["LOCAL_RANK"] = "0"
    ChildWatch(list, 0.4, lambda fault: None)
    fork(wait_for_rank_0, output=tmp_path / "child")
    wait_for(tmp_path / "child", "waiting")
    os.kill(os.getpid(), signum)


def wait_for_rank_0() -> None:
    os.environ["LOCAL_RANK"] = "1"
    ParentWatch().start()
    os.write(2, b"waiting\n")
    hang()


@pytest.mark.parametrize(
    ("signum", "fault"), [(signal.SIGKILL, "is gone"), (signal.SIGSTOP, "has been frozen for 0.4 s")]
)
def test_a_rank_that_waits_for_the_rendezvous_ends_with_the_one_that_started_it(tmp_path, signum, fault):
    parent = fork(start_a_rank_and_fall, tmp_path, signum, output=tmp_path / "parent")
    said = wait_for(tmp_path / "child", "stops: ", seconds=20)
    parent.kill()
    parent.join()
    assert said == f"waiting\nrank 1 stops: process {parent.pid}, which started it, {fault}\n"


FALLING = """
import os, subprocess, sys
os.environ.update(LOCAL_RANK="1", CODIEMB_STARTED_BY=f"{os.getpid()} inf")
os.environ.pop("TORCHELASTIC_RUN_ID", None)
subprocess.Popen([sys.executable, "run_train.py", "data=none"])
"""


def test_a_rank_watches_from_its_first_line_on(tmp_path):
    """Nor is its typo found: its command line is read after that."""
    with open(tmp_path / "said", "wb") as file:
        subprocess.run([sys.executable, "-c", FALLING], cwd=ROOT, stderr=file, check=True, timeout=60)
    assert "rank 1 stops: " in wait_for(tmp_path / "said", "\n", seconds=30)
