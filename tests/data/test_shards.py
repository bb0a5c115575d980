"""Patterns and lists of files: one source of many shards, in an order and with a name to foresee."""

import gzip
import json
import logging
import os
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codiemb.config.schema import DataConfig, SourceConfig
from codiemb.config.typed import source_files
from codiemb.data import SourceFile, convert, open_sources
from codiemb.data.shards import files_of, source_name
from codiemb.errors import UserError


def ir(i, **more):
    return {
        "task_type": "ir",
        "query": ["x" * i, "", f"query {i}"],
        "positives": [f"p {i}"] * (1 + i % 2),
    } | more


def sts(i):
    return {"task_type": "sts", "query": f"l {i}", "positives": [f"r {i}"], "positive_scores": [i / 10]}


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/2.jsonl",
        "b/10.jsonl",
        "b/1.jsonl",
        "b/.3.jsonl",
        "c/x/t-1.jsonl.gz",
        "c/t-0.jsonl.gz",
        "a[1].jsonl",
    ):
        write(tmp_path / name, [ir(0)])
    (tmp_path / "b" / "old.jsonl").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "files"),
    [
        ("b/*.jsonl", ["b/1.jsonl", "b/10.jsonl", "b/2.jsonl"]),  # neither hidden files nor folders
        ("b/[12].jsonl", ["b/1.jsonl", "b/2.jsonl"]),
        ("b/?.jsonl", ["b/1.jsonl", "b/2.jsonl"]),
        ("c/**/*.jsonl.gz", ["c/t-0.jsonl.gz", "c/x/t-1.jsonl.gz"]),
        ("a[1].jsonl", ["a[1].jsonl"]),  # a file of this name is there
        ("no.jsonl", ["no.jsonl"]),  # said when it is read
        ("no/*.jsonl", ["no/*.jsonl"]),
    ],
)
def test_a_pattern_means_its_files_sorted(folder, entry, files):
    assert files_of("data.files", [entry]) == [Path(file) for file in files]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("b/*.parquet", r"b has 1\.jsonl, 10\.jsonl, 2\.jsonl, \.\.\."),
        ("no/*.jsonl", "there is no folder no"),
        ("*[1].jsonl", r"\. has a\[1\]\.jsonl, .*"),
    ],
)
def test_a_pattern_of_no_file_is_refused_with_what_is_there(folder, pattern, says):
    files = source_files(DataConfig(files=["b/1.jsonl", pattern]))
    with pytest.raises(UserError, match=rf"^{re.escape(pattern)}: no file matches; {says}$"):
        convert(files, folder / "cache", skip_bad=False)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("a.jsonl", "a"),
        ("x/a.jsonl.gz", "a"),
        ("a.jsonl.zst", "a"),
        ("a.parquet", "a"),
        ("v1.5.gz", "v1.5"),
        ("a.b.jsonl", "a.b"),
        ("b/*.parquet", "b"),
        ("c/**/*.jsonl.gz", "c"),
        ("x/train-*.parquet", "train"),
        ("x/nq.[0-9].jsonl", "nq"),
        ("x/*/nq.jsonl", "nq"),
        ("x/*_train.jsonl", "x"),
        ("v1.5/*", "v1.5"),
    ],
)
def test_a_source_is_named_after_its_file_or_the_fixed_part_of_its_pattern(folder, entry, name):
    assert source_name(entry) == name


def test_a_pattern_without_a_fixed_part_is_named_after_the_folder_it_starts_in(folder):
    assert source_name("*.jsonl") == folder.name
    assert source_name("../*/*.jsonl") == folder.parent.name


def test_a_source_may_be_a_pattern_or_a_list(folder):
    both = SourceConfig(path=["b/2.jsonl", "c/**/*.gz"], score_range=[0.0, 5.0], in_batch=False)
    data = DataConfig(sources={"both": both, "one": SourceConfig(path="b/1?.jsonl")}, files=["c/*.gz"])
    assert source_files(data) == [
        SourceFile("both", Path("b/2.jsonl"), (0.0, 5.0), False),
        SourceFile("both", Path("c/t-0.jsonl.gz"), (0.0, 5.0), False),
        SourceFile("both", Path("c/x/t-1.jsonl.gz"), (0.0, 5.0), False),
        SourceFile("one", Path("b/10.jsonl")),
        SourceFile("c", Path("c/t-0.jsonl.gz")),
    ]


def test_a_file_that_two_entries_mean_is_refused(folder):
    with pytest.raises(UserError, match=r"^data\.files: b/1\.jsonl is named twice .*; name it once$"):
        source_files(DataConfig(files=["b/1.jsonl", "b/*.jsonl"]))
    with pytest.raises(UserError, match=r"^data\.sources\.x\.path: b/1\.jsonl is named twice"):
        source_files(DataConfig(sources={"x": SourceConfig(path=["b/?.jsonl", "./b/1.jsonl"])}))
    with pytest.raises(UserError, match="two training files are named 'b'"):
        source_files(DataConfig(files=["b/1*.jsonl", "b/2*.jsonl", "b/*", "x/b.jsonl"]))


def test_a_file_that_a_link_means_too_is_refused(folder):
    Path("b/latest.jsonl").symlink_to("1.jsonl")
    with pytest.raises(UserError, match=r"b/latest\.jsonl is named twice, also as b/1\.jsonl: a link"):
        source_files(DataConfig(files=["b/*.jsonl"]))
    Path("b/latest.jsonl").unlink()
    Path("b/again").symlink_to(".")  # `**` follows it 40 times
    with pytest.raises(UserError, match=r"b/again/1\.jsonl is named twice, also as b/1\.jsonl: a link"):
        source_files(DataConfig(sources={"x": SourceConfig(path="b/**/*.jsonl")}))


def test_shards_of_all_kinds_are_one_source_in_their_order(tmp_path):
    shards = [[ir(i) for i in range(3)], [ir(i, negatives=["n"]) for i in range(3, 5)], [ir(5)]]
    paths = [tmp_path / name for name in ("0.jsonl", "1.parquet", "2.jsonl.gz")]
    for path, rows in zip(paths, shards, strict=True):
        write(path, rows)
    write(tmp_path / "whole.jsonl", [row for rows in shards for row in rows])
    files = [SourceFile("docs", path) for path in paths] + [SourceFile("whole", tmp_path / "whole.jsonl")]
    convert(files, tmp_path / "cache", skip_bad=False)
    docs, whole = open_sources(files, tmp_path / "cache")
    assert (docs.name, docs.task, len(docs)) == ("docs", "ir", 6)
    assert [docs[i] for i in range(6)] == [whole[i] for i in range(6)]
    assert docs.about == whole.about
    assert docs.about["with_negatives"] == 2
    assert docs.longest == whole.longest
    assert [pickle.loads(pickle.dumps(docs))[i] for i in range(6)] == [whole[i] for i in range(6)]


def test_tasks_of_the_shards_are_sources_of_their_own(tmp_path):
    write(tmp_path / "0.jsonl", [ir(0), sts(1)])
    write(tmp_path / "1.jsonl", [sts(2), sts(8)])
    files = [SourceFile("mixed", tmp_path / f"{k}.jsonl") for k in range(2)]
    convert(files, tmp_path / "cache", skip_bad=False)
    retrieval, pairs = open_sources(files, tmp_path / "cache")
    assert (retrieval.name, len(retrieval), pairs.name, len(pairs)) == ("mixed.ir", 1, "mixed.sts", 3)
    assert [pairs[i].query.text for i in range(3)] == ["l 1", "l 2", "l 8"]
    assert pairs.about["scores"] == [0.1, 0.8]
    assert retrieval.about["scores"] is None


def test_a_shard_that_is_gone_or_new_since_the_conversion_is_refused(tmp_path):
    for k in range(3):
        write(tmp_path / f"{k}.jsonl", [ir(k)])
    files = [SourceFile("docs", tmp_path / f"{k}.jsonl") for k in range(3)]
    convert(files[:2], tmp_path / "cache", skip_bad=False)
    with pytest.raises(UserError, match="the converted file is missing"):
        open_sources(files, tmp_path / "cache")
    os.unlink(tmp_path / "1.jsonl")
    with pytest.raises(UserError, match=r"1\.jsonl: no such file"):
        open_sources(files[:2], tmp_path / "cache")


def test_wrong_files_are_told_together_before_any_is_converted(tmp_path, caplog):
    for k in range(30):
        (tmp_path / f"{k}.jsonl").write_text("<html>")
    write(tmp_path / "good.jsonl", [ir(0)])
    names = ["good", *range(25), "missing"]
    files = [SourceFile("docs", tmp_path / f"{name}.jsonl") for name in names]
    with caplog.at_level(logging.INFO), pytest.raises(UserError) as error:
        convert(files, tmp_path / "cache", skip_bad=True)
    lines = str(error.value).split("\n")
    assert len(lines) == 21
    assert lines[0].startswith(f"{tmp_path}/0.jsonl: this is a page of HTML")
    assert lines[20] == "... and 6 more files"
    assert not (tmp_path / "cache").exists()
