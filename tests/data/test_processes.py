"""Files that are converted side by side: what is written, said and refused is that of one after another."""

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe

import pytest

from codiemb.data import SourceFile, convert, converter, one_file, processes, progress
from codiemb.data.one_file import CacheError
from codiemb.data.processes import useful_processes
from codiemb.errors import UserError


def ir(i):
    return {"task_type": "ir", "query": f"query {i}", "positives": [f"p {i}"], "idx": i, "negative": "n"}


@pytest.fixture
def files(write_lines):
    shards = [[ir(i) for i in range(k, 2_000, 5)] for k in range(5)]
    shards[1][3], shards[3][2] = "bad", "{}"
    return [SourceFile("docs", write_lines(rows, name=f"{k}.jsonl")) for k, rows in enumerate(shards)]


def outcome(files, cache, caplog, num_processes):
    """All that a conversion leaves and says."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        try:
            convert(files, cache, skip_bad=False, num_processes=num_processes)
        except UserError as error:
            said = str(error)
        else:
            said = "converted"
    written = {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    return said, [m for m in caplog.messages if not m.startswith("converting ")], written


def test_two_processes_write_and_say_what_one_does(files, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    (tmp_path / "broken.jsonl").write_bytes(gzip.compress(b"{}")[:-4])
    files.append(SourceFile("broken", tmp_path / "broken.jsonl"))
    said, logged, written = outcome(files, tmp_path / "1", caplog, num_processes=1)
    assert "broken.jsonl: the file ends early" in said
    assert "2 bad records" in said
    assert len(logged) == 10  # two remarks a file
    assert len(written) == 9
    assert outcome(files, tmp_path / "2", caplog, num_processes=2) == (said, logged, written)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([1 << 30], None, 1),
        ([1 << 27] * 3, None, 3),
        ([1 << 19] * 99, None, 1),
        ([1 << 27] * 99, None, 4),
        ([1, 1], 9, 2),
        ([1 << 30] * 9, 1, 1),
    ],
)
def test_one_process_a_cpu_where_there_is_work_for_it(monkeypatch, sizes, most, expected):
    monkeypatch.setattr(processes, "_num_cpus", lambda: 4)
    assert useful_processes(sizes, most) == expected


CONVERT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from pathlib import Path
from codiemb.data import SourceFile, convert
files = [SourceFile("docs", Path(path)) for path in sys.argv[2:]]
convert(files, Path(sys.argv[1]), skip_bad=False, num_processes=2)
"""


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's; 2026-11-26")
def test_ctrl_c_ends_the_processes_without_their_tracebacks_and_leaves_nothing(tmp_path):
    paths, cache = [tmp_path / f"{k}.jsonl" for k in range(2)], tmp_path / "cache"
    for path in paths:  # more than is read in the time of this test
        path.write_text((json.dumps(ir(0)) + "\n") * 400_000)
    command = [sys.executable, "-c", CONVERT, str(cache), *map(str, paths)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(cache.glob(".partial-*/ir.arrow"))) == 2)
    converters = children(run.pid)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in converters)
    assert len(converters) == 2
    assert list(cache.iterdir()) == []
    assert errors.count("Traceback") == 1


def test_a_converter_stops_and_leaves_nothing_when_the_other_process_is_gone(
    write_lines, tmp_path, monkeypatch
):
    cache, (ours, theirs) = tmp_path / "cache", Pipe()
    file = SourceFile("docs", write_lines([ir(i) for i in range(2_000)]))
    monkeypatch.setattr(converter, "_SECONDS", 0.0)
    thread = threading.Thread(target=converter.serve, args=[theirs])
    thread.start()
    ours.send_bytes(processes._job(file, cache, skip_bad=False))
    assert json.loads(ours.recv_bytes())["read"][0] == 256
    ours.close()
    thread.join()
    assert list(cache.iterdir()) == []


def test_a_process_that_is_killed_is_named_with_what_to_do(files, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PROGRAM", ("-c", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(
        UserError, match=r"jsonl: the process that .* was killed, .*; data\.num_converters=1 conv"
    ):
        convert(files, tmp_path / "cache", skip_bad=False, num_processes=2)


def test_an_error_of_ours_and_one_of_the_cache_cross_the_channel(tmp_path, write_lines, monkeypatch):
    file = SourceFile("docs", write_lines([ir(0)]))
    ours, theirs = Pipe()

    def answer(cache):
        ours.send_bytes(processes._job(file, cache, skip_bad=False))
        return converter._answer(json.loads(theirs.recv_bytes()), theirs)

    with pytest.raises(CacheError, match=r"data\.cache=.*: Not a directory; make room there"):
        processes._outcome(answer(file.path / "cache"))
    monkeypatch.setattr(one_file, "Scan", None)
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*NoneType"):
        processes._outcome(answer(tmp_path / "cache"))
