"""The cache of converted files is counted and hashed: what is not what was written is made again."""

import errno
import logging
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from codiemb import atomic
from codiemb.data import (
    SourceFile,
    arrow,
    cache,
    conversion,
    convert,
    lines,
    one_file,
    open_sources,
    progress,
)
from codiemb.data.cache import partial_folder
from codiemb.errors import UserError

RECORDS = [
    {"task_type": "ir", "query": ["find", "", f"query {i}"], "positives": [f"p {i}"], "negatives": ["n"]}
    for i in range(300)
]


@pytest.fixture
def path(write_lines):
    return write_lines([*RECORDS, "bad"])


@pytest.fixture
def world(path, tmp_path, caplog):
    class World:
        def __init__(self) -> None:
            self.files = [SourceFile("docs", path)]
            self.cache = tmp_path / "cache"

        def convert(self):
            caplog.clear()
            with caplog.at_level(logging.INFO):
                convert(self.files, self.cache, skip_bad=True)
            return [m for m in caplog.messages if not m.startswith("skipped ")]

        def queries(self):
            (source,) = open_sources(self.files, self.cache)
            return [source[i].query.text for i in range(len(source))]

        @property
        def folder(self):
            (folder,) = self.cache.iterdir()
            return folder

    return World()


QUERIES = [f"query {i}" for i in range(300)]


def test_what_was_converted_is_used_again_without_a_word(world, monkeypatch):
    world.convert()
    monkeypatch.setattr(conversion, "Scan", None)
    assert world.convert() == []
    assert world.queries() == QUERIES


@pytest.mark.parametrize("seed", range(24))
def test_a_flipped_bit_anywhere_is_found_and_the_file_converted_again_with_one_line(world, seed):
    world.convert()
    draw = random.Random(seed)
    files = sorted(path for path in world.folder.iterdir())
    assert [file.name for file in files] == ["bad_lines.jsonl", "ir.arrow", "whole.json"]
    file = files[seed % 3]
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content) - 1)] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    (line,) = world.convert()
    assert line.startswith(f"{world.folder}: converted again: ")
    assert world.queries() == QUERIES
    assert world.convert() == []


def test_a_file_cut_at_the_border_of_a_block_is_found(world, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS_PER_WRITE", 100)
    world.convert()
    file = world.folder / "ir.arrow"
    cut = str(file) + ".cut"
    with pa.ipc.open_stream(file) as stream, pa.ipc.new_stream(cut, stream.schema) as writer:
        writer.write_batch(stream.read_next_batch())
    os.replace(cut, file)  # a sound Arrow file of 100 of the 300 records
    with pytest.raises(UserError, match=r"missing, or has changed since it was checked; start again"):
        world.queries()
    assert len(world.convert()) == 1
    assert world.queries() == QUERIES


@pytest.mark.parametrize("name", ["ir.arrow", "whole.json", "bad_lines.jsonl"])
def test_a_missing_part_is_found(world, name):
    world.convert()
    (world.folder / name).unlink()
    with pytest.raises(UserError, match="missing, or has changed"):
        world.queries()
    assert len(world.convert()) == 1
    assert world.queries() == QUERIES


@pytest.mark.parametrize("what", ["a file", "a dead link"])
def test_what_lies_in_the_way_of_a_converted_folder_is_replaced(world, what):
    world.convert()
    folder = world.folder
    shutil.rmtree(folder)
    folder.write_text("") if what == "a file" else folder.symlink_to("nowhere")
    world.convert()
    assert world.queries() == QUERIES


def test_other_content_of_the_same_size_and_time_is_converted_again(world, path):
    world.convert()
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"query 7", b"query x"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (line,) = world.convert()
    assert "has other content, though its size and time are the same" in line
    assert world.queries()[7] == "query x"
    assert world.convert() == []


def test_a_file_that_was_only_touched_is_hashed_once_and_not_converted_again(world, path, monkeypatch):
    world.convert()
    path.chmod(0o600)  # another ctime
    monkeypatch.setattr(conversion, "Scan", None)
    assert world.convert() == []
    monkeypatch.setattr(conversion, "hash_file", None)
    assert world.convert() == []
    assert world.queries() == QUERIES


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced"])
def test_a_source_that_changes_while_it_is_converted_is_refused(world, path, monkeypatch, change):
    class Changing(one_file.Scan):
        def __iter__(self):
            for number, record in enumerate(super().__iter__()):
                if number == 200 and change == "grows":
                    with path.open("ab") as file:
                        file.write(b"{}\n")
                elif number == 200:
                    os.truncate(path, 20_000 if change == "shrinks" else 0)
                    if change == "is replaced":
                        path.write_bytes(b"x" * self.state.size)
                yield record

    monkeypatch.setattr(one_file, "Scan", Changing)
    with pytest.raises(UserError, match=rf"{path}: changed while it was read .*start again when it is"):
        world.convert()
    assert list(world.cache.iterdir()) == []


# Partial folders


def test_what_a_killed_conversion_left_is_removed_by_the_next(world):
    ready, begun = os.pipe()
    if not (child := os.fork()):
        with partial_folder(world.cache) as folder:
            (folder / "half.arrow").write_bytes(b"x")
            os.write(begun, b"x")
            time.sleep(60)
            os._exit(1)
    os.read(ready, 1)
    with partial_folder(world.cache) as mine:
        assert len(list(world.cache.glob(".partial-*"))) == 2  # a live one's stays
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        world.convert()
        assert list(world.cache.glob(".partial-*")) == [mine]
    assert world.queries() == QUERIES


def test_a_partial_folder_of_an_older_version_is_removed_when_it_is_old(world):
    for name, age in (("partial-old", 2 * 3_600), ("partial-new", 0)):
        (world.cache / name).mkdir(parents=True)
        os.utime(world.cache / name, (time.time() - age,) * 2)
    world.convert()
    assert [path.name for path in world.cache.glob("partial-*")] == ["partial-new"]


def test_a_converted_folder_may_be_read_by_whom_umask_lets(world):
    mask = os.umask(0o027)
    try:
        world.convert()
    finally:
        os.umask(mask)
    assert world.folder.stat().st_mode & 0o777 == 0o750
    assert (world.folder / "ir.arrow").stat().st_mode & 0o777 == 0o640


def test_all_of_a_folder_is_synced_before_it_gets_its_name(world, monkeypatch):
    done = []
    for module in (cache, atomic):
        monkeypatch.setattr(module, "sync", lambda path: done.append(path.name))
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda *names: done.append("renamed") or rename(*names))
    world.convert()
    assert {"ir.arrow", "bad_lines.jsonl", "whole.json.partial"} <= set(done[: done.index("renamed")])
    assert done.index("ir.arrow") < done.index("whole.json.partial")
    assert done[-1] == "cache"


# Errors


def test_a_disk_that_cannot_flush_a_folder_is_no_error(world, monkeypatch):
    fsync = os.fsync

    def flush(descriptor):
        if os.path.isdir(f"/dev/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    world.convert()
    assert world.queries() == QUERIES


def test_a_full_disk_under_the_cache_is_named(world, monkeypatch):
    class Full(arrow.TaskWriter):
        def __init__(self, path) -> None:
            super().__init__(Path("/dev/full"))

    monkeypatch.setattr(one_file, "TaskWriter", Full)
    with pytest.raises(UserError, match=rf"data\.cache={world.cache}: .*[Nn]o space left.*; make room there"):
        world.convert()
    assert list(world.cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(world, tmp_path, monkeypatch):
    world.cache = tmp_path / "train.jsonl" / "cache"  # below a file: not for root either
    with pytest.raises(UserError, match=rf"data\.cache={world.cache}: Not a directory; make room"):
        world.convert()
    world.cache = tmp_path / "cache"

    def read_only(*_args, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(UserError, match=r"data\.cache=.*: Read-only file system"):
        world.convert()


def test_a_read_only_cache_that_holds_the_file_is_used(world, path, monkeypatch):
    world.convert()

    def read_only(*_args, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, read_only)
    path.chmod(0o600)
    assert world.convert() == [f"{world.folder} cannot be written: {path} is hashed at every start"]
    assert world.queries() == QUERIES


def test_converting_shows_progress_and_the_time_left(world, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    monkeypatch.setattr(lines, "_BUFFER", 512)  # what was read ahead counts as read
    (line,) = world.convert()
    assert line.startswith(f"converting {world.files[0].path}: 256 records, 8")
    assert line.endswith(" %, 0:00 left")


# Names


@pytest.mark.parametrize("stem", ["x" * 249, "é" * 124, "东" * 83, "a b,c=(1) 试验"])
def test_a_file_name_of_any_length_and_letters_works(write_lines, tmp_path, stem):
    files = [SourceFile(stem, write_lines(RECORDS, name=f"{stem}.jsonl"))]
    convert(files, tmp_path / "cache", skip_bad=False)
    (source,) = open_sources(files, tmp_path / "cache")
    assert (source.name, len(source)) == (stem, 300)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "", " ", " a", ".", "..", ".a", "a\nb", "a\0", "\u202e", "x" * 256]
)
def test_a_source_s_name_must_fit_into_names_of_metrics_and_files(name):
    with pytest.raises(UserError, match=r"a source cannot be called .*another: \+data\.sources\.NAME"):
        SourceFile(name, Path("train.jsonl"))
