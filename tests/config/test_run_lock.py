"""A folder belongs to one run at a time, and the second is told whose it is."""

import errno
import fcntl
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from subprocess import PIPE

import pytest
from omegaconf import OmegaConf

from codiemb.config import ranks, run_lock
from codiemb.config.run_lock import LOCK_FILE, LockFolder, lock, new_folder, one_run_a_folder, unlock
from codiemb.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from codiemb.config.run_lock import lock
lock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def holder(tmp_path_factory):
    """A folder, and another process that holds it."""
    folder = tmp_path_factory.mktemp("held") / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            yield folder, process
        finally:
            process.kill()


@pytest.fixture
def freed(tmp_path):
    yield tmp_path / "run"
    unlock(tmp_path / "run")


def test_the_second_run_is_told_who_has_the_folder(holder):
    folder, process = holder
    ran = []
    with pytest.raises(UserError) as error:
        one_run_a_folder(ran.append)(OmegaConf.create({"run_dir": str(folder)}))
    assert ran == []
    today = f"{datetime.now():%Y-%m-%d}"
    assert re.search(
        rf"in use by process {process.pid} on host \S+ since {today} \d\d:\d\d", str(error.value)
    )
    assert "hydra.run.dir=FOLDER" in str(error.value)
    with pytest.raises(UserError):  # a second try is refused as the first: nothing gave the lock away
        lock(folder)


def test_another_name_of_the_folder_is_the_same_folder(holder, tmp_path):
    (tmp_path / "link").symlink_to(holder[0])
    with pytest.raises(UserError, match="is in use by process"):
        lock(tmp_path / "link")


def test_hydra_writes_nothing_into_the_folder_of_another_run(holder, capsys):
    place = {"dir": str(holder[0])}
    config = OmegaConf.create({"hydra": {"run": place, "sweep": place}})
    for start in (LockFolder().on_run_start, LockFolder().on_multirun_start):
        with pytest.raises(SystemExit) as stop:
            start(config)
        assert stop.value.code == 2
        assert "error: " in capsys.readouterr().err
    assert [path.name for path in holder[0].iterdir()] == [LOCK_FILE]


def test_other_ranks_share_the_folder_of_their_main_process(holder, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    lock(holder[0])
    LockFolder().on_run_start(OmegaConf.create({"hydra": {"run": {"dir": str(holder[0])}}}))


def hold_and_fork(told, folder: Path) -> None:
    lock(folder)
    worker = os.fork()  # as a loader's worker, which notices the death of its parent seconds later
    if worker:
        told.send(worker)
    signal.pause()


def test_a_lock_dies_with_its_process_and_not_with_the_workers_it_forked(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold_and_fork, args=(theirs, tmp_path))
    process.start()
    worker = ours.recv()
    try:
        with pytest.raises(UserError, match=f"in use by process {process.pid} "):
            lock(tmp_path)
        process.kill()
        process.join()
        lock(tmp_path)
    finally:
        unlock(tmp_path)
        os.kill(worker, signal.SIGKILL)


def test_a_run_that_has_ended_leaves_its_folder_to_the_next(freed):
    seen = []
    main = one_run_a_folder(lambda cfg: seen.append((Path(cfg.run_dir) / LOCK_FILE).read_text("utf-8")))
    for _ in range(2):
        main(OmegaConf.create({"run_dir": str(freed)}))
    assert all(text.startswith(f"process {os.getpid()} on host ") for text in seen)


def test_a_disk_that_cannot_lock_is_a_warning(freed, monkeypatch, caplog):
    def no_locks(file: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with caplog.at_level(logging.WARNING, "codiemb"):
        lock(freed)
    assert f"the disk of {freed} cannot lock files (No locks available)" in caplog.text


@pytest.mark.parametrize("path", ["file/run", "x" * 300])
def test_a_folder_that_cannot_be_is_one_message(tmp_path, path):
    (tmp_path / "file").write_text("in the way", "utf-8")
    for make in (lock, new_folder):
        with pytest.raises(
            UserError, match=r"cannot hold a run: (Not a directory|File name too long); hydra"
        ):
            make(tmp_path / path)


# Names of new folders


class Frozen(datetime):
    @classmethod
    def now(cls, tz=None) -> datetime:
        return datetime(2026, 11, 22, 9, 46, 16)


def test_starts_in_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "datetime", Frozen)
    together = threading.Barrier(9)

    def start(_: int) -> str:
        together.wait()
        return new_folder(tmp_path / "align")

    with ThreadPoolExecutor(9) as pool:
        names = [Path(folder).name for folder in pool.map(start, range(9))]
    first = "2026-11-22_09-46-16"
    assert sorted(names) == [first, *(f"{first}_{number}" for number in range(2, 10))]


def test_ranks_of_a_sweep_get_the_folder_of_rank_0(tmp_path, monkeypatch):
    folder = new_folder(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_folder(tmp_path) == folder


def test_a_job_of_a_sweep_makes_no_folder_besides(tmp_path, monkeypatch):
    from codiemb.config import resume

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume, "in_sweep", lambda: True)
    resume.new_or_unfinished_run("finetune", resume=False)
    assert list(tmp_path.iterdir()) == []
    assert not ranks.in_sweep()
