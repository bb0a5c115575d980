"""A checkpoint counts when its record says so: written last, with size and hash."""

import itertools
import json
import os
from pathlib import Path

import pytest

from codiemb.training import checkpoint_files as checkpoint
from codiemb.training.checkpoint_files import clear_after, commit, committed, keep_newest, last_good


def save(folder: Path, step: int, *, sharded: bool = False) -> Path:
    """Commit a checkpoint, a file or a folder of two shards."""
    folder.mkdir(exist_ok=True)
    partial = folder / f"step-{step}.partial"
    if sharded:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner" / "a").write_bytes(b"a" * step)
        (partial / "b").write_bytes(b"b" * 10)
    else:
        partial.write_bytes(bytes([step]) * 100)
    return commit(partial, step).path


@pytest.mark.parametrize("sharded", [False, True])
def test_the_newest_committed_checkpoint_is_used_and_numbers_are_not_sorted_as_words(tmp_path, sharded):
    for step in (5, 40, 9):
        save(tmp_path, step, sharded=sharded)
    assert last_good(tmp_path).step == 40
    assert [saved.step for saved in committed(tmp_path)] == [5, 9, 40]
    assert (tmp_path / "last.ckpt").resolve() == (tmp_path / "step-9.ckpt").resolve()
    assert not list(tmp_path.glob("*.partial"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"), [(truncate, "bytes instead of"), (flip, "hash"), (os.unlink, "")]
)
@pytest.mark.parametrize("sharded", [False, True])
def test_one_bit_or_byte_of_damage_is_found_and_the_one_before_is_used(
    tmp_path, caplog, damage, says, sharded
):
    save(tmp_path, 4, sharded=sharded)
    path = save(tmp_path, 8, sharded=sharded)
    damage(path / "inner" / "a" if sharded else path)
    assert last_good(tmp_path).step == 4
    assert "step-8.ckpt is damaged" in caplog.text
    assert says in caplog.text


def test_a_shard_of_another_name_is_damage(tmp_path):
    path = save(tmp_path, 8, sharded=True)
    (path / "b").rename(path / "c")
    assert last_good(tmp_path) is None


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"step": 8, "bytes": "x", "xxh3": 1}'])
def test_a_damaged_record_is_a_damaged_checkpoint(tmp_path, record):
    save(tmp_path, 4)
    save(tmp_path, 8)
    (tmp_path / "step-8.json").write_text(record, "utf-8")
    assert last_good(tmp_path).step == 4


class Crash(BaseException):
    """The process is gone: no handler and no clean-up runs."""


def save_and_crash(folder: Path, step: int, after: int, *, sharded: bool) -> bool:
    """Commit, but for no more than `after` calls that change the disk; whether that was too few."""
    left = after

    def crashing(function):
        def wrapped(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            return function(*arguments, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in [(os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "symlink_to")]:
            patch.setattr(owner, name, crashing(getattr(owner, name)))
        patch.setattr(Path, "write_text", crashing(Path.write_text))
        patch.setattr(checkpoint.shutil, "rmtree", crashing(checkpoint.shutil.rmtree))
        try:
            save(folder, step, sharded=sharded)
        except Crash:
            return True
    return False


@pytest.mark.parametrize("sharded", [False, True])
def test_a_crash_anywhere_in_a_save_leaves_a_good_checkpoint_and_a_folder_that_can_go_on(tmp_path, sharded):
    """Also over an older checkpoint of the same step."""
    for after in itertools.count():
        folder = tmp_path / str(after)
        save(folder, 4, sharded=sharded)
        save(folder, 8, sharded=sharded)
        crashed = save_and_crash(folder, 8, after, sharded=sharded)
        found = last_good(folder)
        assert found is not None
        assert found.step in (4, 8)
        clear_after(folder, found.step)
        assert last_good(folder) == found
        names = {path.name for path in folder.iterdir() if path.name != "last.ckpt"}
        assert names == {f"step-{s}.{end}" for s in {4, found.step} for end in ("ckpt", "json")}
        if not crashed:
            break
    assert after > 8


def test_a_file_without_a_record_is_no_checkpoint_and_goes_with_the_next_start(tmp_path):
    save(tmp_path, 4)
    (tmp_path / "step-8.ckpt").write_bytes(b"renamed, but not recorded")
    (tmp_path / "step-12.partial").mkdir()
    assert last_good(tmp_path).step == 4
    clear_after(tmp_path, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"step-4.ckpt", "step-4.json", "last.ckpt"}


@pytest.mark.parametrize("sharded", [False, True])
def test_only_the_newest_are_kept_and_later_ones_go_when_a_run_starts_from_earlier(tmp_path, sharded):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, sharded=sharded)
    keep_newest(tmp_path, 3)
    assert [saved.step for saved in committed(tmp_path)] == [2, 3, 4]
    clear_after(tmp_path, 2)
    assert [saved.step for saved in committed(tmp_path)] == [2]
    assert not (tmp_path / "step-3.ckpt").exists()


def test_the_record_is_plain_json(tmp_path):
    path = save(tmp_path, 4)
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert record["step"] == 4
    assert record["bytes"] == 100


def test_the_system_s_error_is_found_behind_the_writer_s():
    full, other = OSError(28, "No space left on device"), RuntimeError("unexpected pos 640 vs 598")
    other.__context__ = full  # as torch.save leaves it
    assert checkpoint.disk_error(other) is full
    assert checkpoint.disk_error(RuntimeError("another kind")) is None
    assert "the disk mounted at /" in checkpoint.describe_disk_error(full, Path("/nowhere/at/all"))
    assert checkpoint.describe_disk_error(PermissionError(13, "Permission denied"), Path("/")).endswith(
        "denied"
    )
