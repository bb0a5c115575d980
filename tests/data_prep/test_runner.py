"""A step's promises: done again only when something changed, bit-equal after a kill, whole or not at all."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codiemb.errors import UserError
from data_prep import step as step_module
from data_prep.one_writer import only_writer
from data_prep.options import build
from data_prep.runner import load_step, run_step
from tests.support.killed import killed_at
from tests.support.sources import make_source

QUERIES = {f"q{i}": f"question {i}" for i in range(10)}
DOCUMENTS = {f"d{i}": f"answer {i}" for i in range(10)}
QRELS = [(f"q{i}", f"d{i}") for i in range(10)]


@pytest.fixture
def source(tmp_path):
    """Ten pairs in blocks of two, and candidates of which half rank first."""
    candidates = {"bm25": [(f"q{i}", f"d{i}", 1 + 9 * (i % 2), 1.0) for i in range(10)]}
    return make_source(tmp_path / "source", QUERIES, DOCUMENTS, QRELS, candidates, block_rows=2)


def run(name: str, source: Path, out: Path, **values) -> bool:
    return run_step(name, [source], out, build(load_step(name).parameters, values, "test"))


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_step_is_done_again_when_its_options_or_its_input_change(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("filter", source, out, max_rank=1)
    assert not run("filter", source, out, max_rank=1)
    assert "has not changed" in capsys.readouterr().out
    assert run("filter", source, out, max_rank=2)
    make_source(source, QUERIES, DOCUMENTS, QRELS[:5], {"bm25": [("q1", "d1", 1, 2.0)]})
    assert run("filter", source, out, max_rank=2)
    (out / "qrels.parquet").unlink()  # what is not whole is not there
    assert run("filter", source, out, max_rank=2)


def test_export_ends_with_the_files_to_train_on(source, tmp_path, capsys):
    out = tmp_path / "out"
    run("export", source, out)  # a file for each block
    assert f"python run_train.py data=files 'data.files=[{out}/*.jsonl]'\n" in capsys.readouterr().out
    run("export", make_source(source, QUERIES, DOCUMENTS, QRELS), out, format="parquet")
    (written,) = out.glob("*.parquet")
    assert f"'data.files=[{written}]'\n" in capsys.readouterr().out


def test_the_manifest_says_what_was_read_what_came_out_and_why_the_rest_did_not(source, tmp_path):
    run("filter", source, tmp_path / "out", max_rank=1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"]["qrels.parquet"] == {"in": 10, "out": 10, "kept": 5, "dropped": {"rank": 5}}
    assert manifest["rows"]["queries.parquet"] == {"in": 10, "out": 10, "kept": 10, "dropped": {}}
    before = hashlib.sha256((source / "manifest.json").read_bytes()).hexdigest()
    assert manifest["inputs"] == [{"folder": "../source", "manifest": before}]
    assert manifest["parameters"]["max_rank"] == 1
    assert manifest["schema"]["qrels.parquet"]["grade"] == "double"
    assert {name: about["sha256"] for name, about in manifest["files"].items()} == {
        name: digest for name, digest in hashes(tmp_path / "out").items() if name != "manifest.json"
    }
    assert str(tmp_path) not in json.dumps(manifest)  # a folder may be moved


@pytest.mark.parametrize("name", ["filter", "export"])
def test_a_killed_step_goes_on_where_it_was_and_ends_bit_equal(source, tmp_path, monkeypatch, name):
    values = {"max_rank": 1} if name == "filter" else {}
    run(name, source, tmp_path / "whole", **values)
    made = killed_at(monkeypatch, 3, of="parts")
    with pytest.raises(KeyboardInterrupt):
        run(name, source, tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()
    run(name, source, tmp_path / "out", **values)
    assert len(set(made)) == len(made) - 1  # only the piece that was cut off was made twice
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "whole", "out"}


def test_pieces_of_a_run_with_other_options_are_not_used(source, tmp_path, monkeypatch):
    run("filter", source, tmp_path / "whole", max_rank=1)
    with monkeypatch.context() as patch:
        patch.setattr("data_prep.step.join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run("filter", source, tmp_path / "out", max_rank=10)
    run("filter", source, tmp_path / "out", max_rank=1)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_nothing_that_no_step_wrote_is_overwritten_or_read(source, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no step wrote"):
        run("filter", source, mine, max_rank=1)
    with pytest.raises(UserError, match="no step wrote this folder"):
        run("filter", mine, tmp_path / "out", max_rank=1)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_two_processes_do_not_write_one_folder(source, tmp_path):
    partial = tmp_path / ".out.partial"
    with only_writer(partial, tmp_path / "out"):
        with pytest.raises(UserError, match="another process"):
            run("filter", source, tmp_path / "out", max_rank=1)
        assert partial.is_dir()  # the other's


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "make room"), (errno.EACCES, "right to read and write")]
)
def test_a_full_disk_is_one_error_and_leaves_what_was_made(source, tmp_path, monkeypatch, code, words):
    def fail(path):
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "sync", fail)
        with pytest.raises(UserError, match=words):
            run("filter", source, tmp_path / "out", max_rank=1)
    assert not (tmp_path / "out").exists()
    assert run("filter", source, tmp_path / "out", max_rank=1)


def test_a_table_that_was_changed_since_is_no_input_and_no_step_says_that_it_was_not(source, tmp_path):
    run("export", source, tmp_path / "out")
    table = pq.read_table(source / "queries.parquet")
    pq.write_table(table.slice(1), source / "queries.parquet")
    for out in ("out", "new"):
        with pytest.raises(UserError, match=r"source/queries\.parquet: not what the step wrote, by its size"):
            run("export", source, tmp_path / out)


def test_a_damaged_or_foreign_table_is_one_error(source, tmp_path):
    table = source / "qrels.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-8] + bytes(8))  # of the same size
    with pytest.raises(UserError, match=r"qrels\.parquet: no whole Parquet file"):
        run("filter", source, tmp_path / "out", max_rank=1)
    foreign = (source / "queries.parquet").read_bytes()
    table.write_bytes(foreign)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["files"]["qrels.parquet"]["bytes"] = len(foreign)
    (source / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"no column query; it has id, text"):
        run("export", source, tmp_path / "out")


def test_an_id_that_is_in_no_table_is_named_with_its_row(source, tmp_path):
    make_source(source, QUERIES, DOCUMENTS, [*QRELS, ("q1", "gone"), ("lost", "d1")])
    with pytest.raises(UserError) as caught:
        run("export", source, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "row 12: 'lost' is not in queries.parquet",
        "row 11: 'gone' is not in corpus.parquet",
    ]
