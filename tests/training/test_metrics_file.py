"""What stays of a run's JSON-lines files where it goes on."""

import json
from pathlib import Path

import pytest

from codiemb.errors import UserError
from codiemb.training.metrics_file import keep_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (0, 2, 4)) + '{"step": 1', "utf-8")
    return path


@pytest.mark.parametrize(
    ("before", "size", "kept"),
    [
        (3, 0, [0, 2]),
        (2, 0, [0]),
        (0, 0, []),
        (9, 0, [0, 2, 4]),  # but not the line that is half written
        (0, 24, [0, 2]),  # 12 bytes a line
        (0, 23, [0]),
    ],
)
def test_lines_before_a_step_or_within_a_size_stay(
    path: Path, before: int, size: int, kept: list[int]
) -> None:
    keep_lines(path, before=before, size=size)
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()] == kept
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_file_stays_missing(tmp_path: Path) -> None:
    keep_lines(tmp_path / "missing.jsonl", before=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ['{"step": 1', "[]", '{"time": 1}', '{"step": null}'])
def test_a_damaged_line_inside_the_file_is_named(path: Path, line: str) -> None:
    path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n', "utf-8")
    with pytest.raises(UserError, match=r"lines\.jsonl:2: damaged: .*delete the line, and resume again"):
        keep_lines(path, before=3)
