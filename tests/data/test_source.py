"""Conversion to Arrow and the memory-mapped source: nothing lost, nothing half-written, nothing stale."""

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import tracemalloc

import pandas as pd
import pyarrow.ipc
import pytest
from torch.utils.data import DataLoader

from codiemb.data import Source, SourceFile, arrow, conversion, convert, one_file, open_sources, read_records
from codiemb.errors import UserError


def ir(number):
    return {
        "task_type": "ir",
        "query": ["find", "", f"query {number}"],
        "positives": [f"positive {number}.{k}" for k in range(1 + number % 3)],
        "negatives": [f"negative {number}.{k}" for k in range(number % 4)],
    }


def sts(number, score=0.5):
    pair = {"query": ["match", "", f"left {number}"], "positives": [["match", "", f"right {number}"]]}
    return {"task_type": "sts", "positive_scores": [score]} | pair


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def open_converted(files, cache):
    convert(files, cache, skip_bad=False)
    return open_sources(files, cache)


def test_a_source_holds_exactly_the_records_of_its_file(write_lines, cache):
    path = write_lines([ir(i) for i in range(2_500)])
    (source,) = open_converted([SourceFile("docs", path)], cache)
    assert (source.name, source.task, len(source)) == ("docs", "ir", 2_500)
    assert [source[i] for i in range(len(source))] == list(read_records(path))


def test_a_file_with_two_tasks_becomes_two_sources_in_file_order(write_lines, cache):
    path = write_lines([ir(0), sts(0), ir(1), sts(1), sts(2)])
    sources = open_converted([SourceFile("mixed", path)], cache)
    assert [(source.name, source.task, len(source)) for source in sources] == [
        ("mixed.ir", "ir", 2),
        ("mixed.sts", "sts", 3),
    ]
    assert [sources[1][i].query.text for i in range(3)] == ["left 0", "left 1", "left 2"]


CONVERT_AND_READ = """
import resource, sys
from pathlib import Path
from codiemb.data import SourceFile, arrow, convert, open_sources

arrow._CHARACTERS_PER_WRITE = 2**21
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((used << 10) + (30 << 20), resource.RLIM_INFINITY))
files = [SourceFile("big", Path(sys.argv[1]))]
convert(files, Path(sys.argv[2]), skip_bad=False)
(big,) = open_sources(files, Path(sys.argv[2]))
print(sum(len(big[i].negatives[0].text) for i in range(len(big))))
try:
    bytearray(40 << 20)
except MemoryError:
    print("and no more memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's; 2026-11-22")
def test_a_file_larger_than_memory_is_converted_and_read(write_lines, cache):
    path = write_lines([ir(0) | {"negatives": [f"{i:05}" * 2_000]} for i in range(6_000)])
    assert path.stat().st_size > 55 << 20
    command = [sys.executable, "-c", CONVERT_AND_READ, str(path), str(cache)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.stdout.split("\n")[:2] == [str(6_000 * 10_000), "and no more memory"], run.stderr


def test_a_source_works_pickled_and_in_forked_workers(write_lines, cache):
    (source,) = open_converted([SourceFile("docs", write_lines([ir(i) for i in range(20)]))], cache)
    expected = [source[i] for i in range(20)]
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy, Source)
    assert [copy[i] for i in range(20)] == expected
    loader = DataLoader(source, batch_size=None, num_workers=2, collate_fn=_untouched)
    assert list(loader) == expected


def _untouched(record):
    return record


def test_the_cache_is_used_again_while_nothing_changes(write_lines, cache, monkeypatch):
    files = [SourceFile("docs", write_lines([ir(0)]))]
    convert(files, cache, skip_bad=False)
    monkeypatch.setattr(conversion, "Scan", None)  # reading the file again would raise
    convert(files, cache, skip_bad=False)
    convert(files, cache, skip_bad=True)
    assert len(open_sources(files, cache)) == 1


def test_the_cache_is_rebuilt_when_the_file_changes(write_lines, cache):
    path = write_lines([ir(0)])
    files = [SourceFile("docs", path)]
    assert len(open_converted(files, cache)[0]) == 1
    write_lines([ir(0), ir(1)])
    assert len(open_converted(files, cache)[0]) == 2
    write_lines([ir(0), ir(2)])  # of the same size
    os.utime(path, ns=(1, 1))
    assert open_converted(files, cache)[0][1].query.text == "query 2"


def test_the_cache_is_rebuilt_when_the_score_range_changes(write_lines, cache):
    path = write_lines([sts(0, 1.0), sts(1, 0.5)])
    (source,) = open_converted([SourceFile("pairs", path)], cache)
    assert [source[i].positive_scores for i in range(2)] == [[1.0], [0.5]]
    (source,) = open_converted([SourceFile("pairs", path, (0.0, 2.0))], cache)
    assert [source[i].positive_scores for i in range(2)] == [[0.5], [0.25]]


def test_files_of_one_name_in_different_folders_do_not_share_a_cache(tmp_path, write_lines, cache):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_lines([ir(len(folder)), ir(ord(folder))], name=f"{folder}/train.jsonl")
    files = [SourceFile(folder, tmp_path / folder / "train.jsonl") for folder in ("a", "b")]
    a, b = open_converted(files, cache)
    assert a[1].query.text == f"query {ord('a')}"
    assert b[1].query.text == f"query {ord('b')}"


def test_a_cache_folder_says_which_file_it_holds(write_lines, cache):
    open_converted([SourceFile("docs", write_lines([ir(0)], name="my docs.jsonl"))], cache)
    assert [bool(re.fullmatch(r"my docs-[0-9a-f]{16}", path.name)) for path in cache.iterdir()] == [True]


# Bad lines


def test_bad_lines_of_all_files_come_in_one_error_and_leave_nothing(write_lines, cache):
    one = write_lines([ir(0), "bad"], name="one.jsonl")
    two = write_lines(["{}", ir(0)], name="two.jsonl")
    files = [SourceFile("one", one), SourceFile("two", two)]
    for _ in range(2):
        with pytest.raises(UserError) as error:
            convert(files, cache, skip_bad=False)
        assert str(error.value).startswith("2 bad records; ")
        assert f"{one}:2: not JSON" in str(error.value)
        assert f"{two}:1: task_type is missing" in str(error.value)
        assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("jsonl", "task_type is missing"), ("csv", "a table with"), ("parquet", "no column 'task_type'")],
)
def test_files_with_columns_of_other_trainers_are_told_the_way_to_records(tmp_path, cache, kind, shown):
    frame = pd.DataFrame({"anchor": ["a", "b"], "positive": ["c", "d"]})
    content = {
        "jsonl": frame.to_json(orient="records", lines=True).encode(),
        "csv": frame.to_csv(index=False).encode(),
        "parquet": frame.to_parquet(),
    }
    path = tmp_path / "pairs"
    path.write_bytes(content[kind])
    with pytest.raises(UserError, match=shown) as error:
        convert([SourceFile("pairs", path)], cache, skip_bad=False)
    assert str(error.value).count("python -m data_prep fetch --importer pairs --from") == 1


def test_skip_mode_counts_writes_and_reports_again(write_lines, cache, tmp_path, caplog):
    path = write_lines([ir(0), "schlecht, 坏", ir(1), "{}"])
    files = [SourceFile("docs", path)]
    for run in ("first", "second"):
        rejects = tmp_path / run / "rejects.jsonl"
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            convert(files, cache, skip_bad=True, rejects=rejects)
        assert caplog.messages == [f"skipped 2 bad records, see {rejects}"]
        rows = [json.loads(line) for line in rejects.read_text("utf-8").splitlines()]
        assert [(row["where"], row["line"]) for row in rows] == [
            (f"{path}:2", "schlecht, 坏"),
            (f"{path}:4", "{}"),
        ]
        assert rows[1]["problem"] == "task_type is missing"
        (source,) = open_sources(files, cache)
        assert [source[i].query.text for i in range(len(source))] == ["query 0", "query 1"]


def test_what_was_skipped_once_is_still_an_error_without_skip_mode(write_lines, cache):
    files = [SourceFile("docs", write_lines([ir(0), "bad"]))]
    convert(files, cache, skip_bad=True)
    with pytest.raises(UserError, match="1 bad record;"):
        convert(files, cache, skip_bad=False)
    convert(files, cache, skip_bad=True)
    assert len(open_sources(files, cache)[0]) == 1


def test_a_file_of_bad_lines_only_is_an_error_in_skip_mode_too(write_lines, cache):
    path = write_lines(["bad", "worse"])
    with pytest.raises(
        UserError, match=rf"{path}: not one usable record among 2 lines\n.*\n{path}:1: not JSON"
    ):
        convert([SourceFile("docs", path)], cache, skip_bad=True)
    assert list(cache.iterdir()) == []


def test_no_rejects_file_without_bad_lines(write_lines, cache, tmp_path):
    convert([SourceFile("docs", write_lines([ir(0)]))], cache, skip_bad=True, rejects=tmp_path / "rejects")
    assert not (tmp_path / "rejects").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [2, 2_500])  # before and after the first block is on disk
def test_a_crash_in_the_middle_leaves_nothing(write_lines, cache, monkeypatch, error, at):
    files = [SourceFile("docs", write_lines([ir(i) for i in range(3_000)]))]

    class Crashes(one_file.Scan):
        def __iter__(self):
            for number, record in enumerate(super().__iter__()):
                if number == at:
                    raise error("power failure")
                yield record

    with monkeypatch.context() as patch:
        patch.setattr(one_file, "Scan", Crashes)
        with pytest.raises(error):
            convert(files, cache, skip_bad=False)
    assert list(cache.iterdir()) == []
    assert len(open_converted(files, cache)[0]) == 3_000


def test_two_runs_that_convert_the_same_file_at_once_both_succeed(write_lines, cache, monkeypatch):
    files = [SourceFile("docs", write_lines([ir(0), ir(1)]))]
    write_arrow = one_file._write_arrow

    def overtaken(scan, folder, report):
        with monkeypatch.context() as patch:
            patch.setattr(one_file, "_write_arrow", write_arrow)
            convert(files, cache, skip_bad=False)  # the other run finishes first
        return write_arrow(scan, folder, report)

    monkeypatch.setattr(one_file, "_write_arrow", overtaken)
    convert(files, cache, skip_bad=False)
    assert len(open_sources(files, cache)[0]) == 2
    assert len(list(cache.iterdir())) == 1


def test_a_missing_file_is_an_error_before_anything_is_written(cache, tmp_path):
    files = [SourceFile("docs", tmp_path / "no.jsonl")]
    for step in (lambda: convert(files, cache, skip_bad=True), lambda: open_sources(files, cache)):
        with pytest.raises(UserError, match=r"no\.jsonl: no such file; check data.files"):
            step()
    assert not cache.exists()


def test_a_block_ends_before_its_texts_are_too_many_for_a_column(write_lines, cache, monkeypatch):
    monkeypatch.setattr(arrow, "_CHARACTERS_PER_WRITE", 100)
    path = write_lines([ir(i) for i in range(50)])
    (source,) = open_converted([SourceFile("docs", path)], cache)
    assert [source[i] for i in range(len(source))] == list(read_records(path))
    (arrow_file,) = cache.glob("*/ir.arrow")
    assert 10 < sum(1 for _ in pyarrow.ipc.open_stream(arrow_file)) < 50


def test_a_source_remembers_its_longest_instructions_of_both_sides(write_lines, cache):
    records = [sts(i) | {"query": ["match" + "x" * (i % 30), "", "left"]} for i in range(100)]
    records[70]["positives"] = [["other", "instruction", "right"]]
    (source,) = open_converted([SourceFile("pairs", write_lines(records))], cache)
    queries = [record.query.instruction for record in source.longest]
    assert sorted(map(len, queries), reverse=True) == list(map(len, queries))
    assert {source[i].query.instruction for i in range(22, 30)} == set(queries)
    assert source[70].positives[0].instruction in {r.positives[0].instruction for r in source.longest}


def test_a_wrong_file_is_told_in_memory_that_does_not_grow_with_it(write_lines, cache):
    path = write_lines(["x" * 10_000] * 2_000)
    tracemalloc.start()
    with pytest.raises(UserError, match="2000 bad records"):
        open_converted([SourceFile("wrong", path)], cache)
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
