"""Rows kept on disk: computed once, restarted to the same bits, refused when they are of something else."""

import contextlib
import errno
import json

import numpy as np
import pytest

from codiemb.errors import UserError
from data_prep.search import kept_rows as module
from data_prep.search.kept_rows import Table, kept_rows

FINGERPRINT = {"model": {"weights": "aaaa", "max_tokens": 64}, "texts": "bbbb"}


def table(**changes):
    return Table(10, (3,), "float32", FINGERPRINT | changes, rows_per_shard=4)


class Counting:
    """Rows that say where they are, and which were asked for; stops before the shard of `stop`."""

    def __init__(self, stop=None):
        self.asked = []
        self.stop = stop

    def __call__(self, start, end):
        if start == self.stop:
            raise KeyboardInterrupt
        self.asked.append(start)
        return np.arange(start, end)[:, None] + np.float32([0.1, 0.2, 0.3])


def test_rows_are_computed_once_and_mapped_from_then_on(tmp_path):
    first, second = Counting(), Counting()
    rows = kept_rows(tmp_path / "kept", table(), first)
    np.testing.assert_array_equal(rows, Counting()(0, 10).astype(np.float32))
    again = kept_rows(tmp_path / "kept", table(), second)
    np.testing.assert_array_equal(again, rows)
    assert (first.asked, second.asked) == ([0, 4, 8], [])
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["fingerprint.json", "rows.npy"]


@pytest.mark.parametrize("stop", [0, 4, 8])
@pytest.mark.parametrize("torn", [b"", b"half a shard"])
def test_a_killed_run_redoes_only_what_is_missing_and_ends_bit_equal(tmp_path, stop, torn):
    kept_rows(tmp_path / "whole", table(), Counting())
    with pytest.raises(KeyboardInterrupt):
        kept_rows(tmp_path / "killed", table(), Counting(stop))
    assert not (tmp_path / "killed" / "fingerprint.json").exists()
    with (tmp_path / "killed" / "rows.npy").open("ab") as file:
        file.write(torn)
    rest = Counting()
    kept_rows(tmp_path / "killed", table(), rest)
    assert rest.asked == [start for start in (0, 4, 8) if start >= stop]
    for name in ("rows.npy", "fingerprint.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("stop", [None, 8], ids=["whole", "started"])
def test_rows_of_something_else_are_refused_with_all_that_differs_and_left_alone(tmp_path, stop):
    with contextlib.suppress(KeyboardInterrupt):
        kept_rows(tmp_path, table(), Counting(stop))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = table(model={"weights": "cccc", "max_tokens": 64}, prompt="query: ")
    with pytest.raises(UserError) as caught:
        kept_rows(tmp_path, other, Counting())
    assert 'model.weights: "aaaa" there, "cccc" now' in str(caught.value)
    assert 'prompt: nothing there, "query: " now' in str(caught.value)
    assert "max_tokens" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_is_one_error_and_the_next_run_goes_on(tmp_path, monkeypatch):
    real, calls = module.sync, []

    def sync(path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "sync", sync)
        with pytest.raises(UserError, match="the disk is full; make room and start again"):
            kept_rows(tmp_path, table(), Counting())
    rest = Counting()
    rows = kept_rows(tmp_path, table(), rest)
    assert rest.asked == [4, 8]
    np.testing.assert_array_equal(rows, Counting()(0, 10).astype(np.float32))


@pytest.mark.parametrize("damage", ["truncated", "gone", "other"])
def test_a_damaged_file_is_an_error_and_no_rows(tmp_path, damage):
    kept_rows(tmp_path, table(), Counting())
    path = tmp_path / "rows.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((3, 10), np.float32))
    with pytest.raises(UserError, match=r"rows\.npy does not hold float32 \(10, 3\)"):
        kept_rows(tmp_path, table(), Counting())


def test_two_processes_do_not_write_one_folder(tmp_path):
    asked = []

    def compute(start, end):
        if not asked:  # another process, in the middle of this one's first shard
            asked.append(start)
            with pytest.raises(UserError, match="kept is being written by another process; wait for it"):
                kept_rows(tmp_path / "kept", table(), Counting())
        return Counting()(start, end)

    rows = kept_rows(tmp_path / "kept", table(), compute)
    np.testing.assert_array_equal(rows, kept_rows(tmp_path / "whole", table(), Counting()))


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="no rows"):
        kept_rows(tmp_path / "kept", Table(0, (3,), "float32", FINGERPRINT), Counting())
    assert not (tmp_path / "kept").exists()


def test_the_record_is_readable(tmp_path):
    kept_rows(tmp_path, table(), Counting())
    record = json.loads((tmp_path / "fingerprint.json").read_text("utf-8"))
    assert record["model"]["max_tokens"] == 64
    assert record["table"] == {"rows": 10, "row_shape": [3], "dtype": "float32", "rows_per_shard": 4}
