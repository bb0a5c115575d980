"""What is written whole is whole after a kill, on the disk, and for everybody whom umask lets in."""

import os
import stat
import subprocess
import sys

import pytest

from codiemb import atomic
from codiemb.atomic import scratch, write_text, written_whole


@pytest.fixture
def synced(monkeypatch):
    """What has been flushed, by inode."""
    inodes = []
    fsync = os.fsync

    def note(descriptor):
        inodes.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return inodes


def test_a_text_and_its_name_are_flushed(tmp_path, synced):
    write_text(tmp_path / "a.json", "1\n")
    assert synced == [(tmp_path / "a.json").stat().st_ino, tmp_path.stat().st_ino]


def test_a_folder_is_flushed_before_it_takes_its_place(tmp_path, synced, monkeypatch):
    replace = atomic._replace
    monkeypatch.setattr(atomic, "_replace", lambda *paths: (synced.append("renamed"), replace(*paths)))
    with written_whole(tmp_path / "export") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_bytes(b"1")
    export = tmp_path / "export"
    needed = {path.stat().st_ino for path in (export, export / "sub", export / "sub" / "weights")}
    assert needed <= set(synced[: synced.index("renamed")])
    assert synced[-1] == tmp_path.stat().st_ino


def test_a_disk_that_cannot_flush_a_folder_is_no_error(tmp_path, monkeypatch):
    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", only_files)
    write_text(tmp_path / "a.json", "1")
    assert (tmp_path / "a.json").read_text() == "1"


def test_names_as_long_as_a_file_system_allows_work(tmp_path):
    name = "试" * 85  # 255 bytes
    write_text(tmp_path / name, "1")
    with written_whole(tmp_path / "deeper" / name) as folder:
        (folder / "a").write_text("1")
    assert os.listdir(tmp_path / "deeper") == [name]


@pytest.mark.parametrize(
    ("umask", "folders", "files"), [(0o022, 0o755, 0o644), (0o027, 0o750, 0o640), (0, 0o777, 0o666)]
)
def test_who_may_read_is_what_umask_says(tmp_path, umask, folders, files):
    before = os.umask(umask)
    try:
        with written_whole(tmp_path / "export") as folder:
            (folder / "sub").mkdir()
            for path in (folder / "weights", folder / "sub" / "config"):
                path.write_bytes(b"1")
                path.chmod(0o600)  # as safetensors leaves its files
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert modes == {files}
    for path in (tmp_path / "export", tmp_path / "export" / "sub"):
        assert stat.S_IMODE(path.stat().st_mode) == folders


# After a kill

WRITER = """
import os, sys, time
from pathlib import Path
from codiemb import atomic
folder, when = Path(sys.argv[1]), sys.argv[2]
rename = os.replace
def replace(old, new):
    rename(old, new)
    if when == "aside":
        print("ready", flush=True)
        time.sleep(60)
os.replace = replace
with atomic.written_whole(folder) as temporary:
    (temporary / "weights").write_text("new")
    if when == "writing":
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that stops in the middle of writing tmp_path/export."""
    processes = []

    def start(when):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "export"), when]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def export(tmp_path, text):
    with written_whole(tmp_path / "export") as folder:
        (folder / "weights").write_text(text)


def test_the_next_one_removes_what_a_killed_process_left_and_nothing_that_is_being_written(tmp_path, writer):
    killed, alive = writer("writing"), writer("writing")
    killed.kill()
    killed.wait()
    (tmp_path / ".export-notours").mkdir()
    assert len(os.listdir(tmp_path)) == 2 + 1
    export(tmp_path, "next")
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 3
    assert left[-1] == "export"
    assert ".export-notours" in left
    alive.kill()
    alive.wait()
    export(tmp_path, "next")
    assert sorted(os.listdir(tmp_path)) == [".export-notours", "export"]


def test_a_folder_that_a_killed_process_had_moved_aside_comes_back(tmp_path, writer):
    export(tmp_path, "old")
    process = writer("aside")
    assert not (tmp_path / "export").exists()
    with scratch(tmp_path / "export"):
        assert not (tmp_path / "export").exists()  # the other one still lives
    process.kill()
    process.wait()
    with scratch(tmp_path / "export"):
        assert (tmp_path / "export" / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["export"]


def test_where_a_folder_cannot_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    (tmp_path / ".export-0a1b2c3d").mkdir()

    def no_locks(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(atomic.fcntl, "flock", no_locks)
    export(tmp_path, "new")
    assert sorted(os.listdir(tmp_path)) == [".export-0a1b2c3d", "export"]
