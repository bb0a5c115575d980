r"""JSON lines end at \n only, whatever the texts in them hold."""

import json
from pathlib import Path

import pytest

from codiemb.json_files import numbered_lines, read_jsonl
from codiemb.report.read import read_run
from codiemb.task_files.found import USUAL
from codiemb.task_files.judged import read_texts
from codiemb.training.metrics_file import keep_lines
from experiments.laboratory.data import _together

# all that str.splitlines takes for the end of a line; JSON wants the first six escaped
SEPARATORS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
ROWS = [{"id": str(i), "text": f"a{separator}b"} for i, separator in enumerate(SEPARATORS)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    path.write_bytes("".join(lines).encode())
    return path


@pytest.mark.parametrize("read", [read_jsonl, lambda path: _together([path])], ids=["lines", "laboratory"])
def test_a_text_may_hold_what_other_readers_take_for_a_line_end(path: Path, read) -> None:
    assert list(read(path)) == ROWS
    assert read_texts([path], USUAL["queries"]).table.to_pylist() == ROWS
    assert [number for number, _ in numbered_lines(path)] == list(range(1, len(ROWS) + 1))


def test_a_carriage_return_between_two_values_of_a_line_does_not_end_it(path: Path) -> None:
    path.write_bytes(b'{"id": "0",\r"text": "a"}\r\n')
    assert list(read_jsonl(path)) == [{"id": "0", "text": "a"}]
    assert read_texts([path], USUAL["queries"]).table.to_pylist() == [{"id": "0", "text": "a"}]


def test_a_run_whose_probe_holds_line_separators_is_read_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    looks = [{"step": i, "neighbours": [{"query": row["text"]}]} for i, row in enumerate(ROWS)]
    lines = [json.dumps(look, ensure_ascii=False) + "\n" for look in looks]
    probe = tmp_path / "probe.jsonl"
    probe.write_bytes("".join(lines).encode())
    assert read_run(tmp_path).looks == looks
    keep_lines(probe, before=7)
    assert read_run(tmp_path).looks == looks[:7]
    keep_lines(probe, before=2, size=len("".join(lines[:5]).encode()))
    assert read_run(tmp_path).looks == looks[:5]
