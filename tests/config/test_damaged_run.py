"""Damaged files of a run that is resumed: named, with what to do; or made again where that is safe."""

import json
from pathlib import Path

import pytest

from codiemb.config import resume, run_folder, task
from codiemb.config.result import recorded_metric
from codiemb.errors import UserError
from codiemb.evaluation import Evaluation

GARBAGE = bytes(range(256))


@pytest.fixture
def run_dir(composed, tmp_path: Path) -> Path:
    run_folder.record_run(composed(), tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [b"", b'{"command": "run_tr', b"[]", GARBAGE])
def test_a_damaged_environment_is_named(composed, run_dir, content):
    (run_dir / "environment.json").write_bytes(content)
    with pytest.raises(UserError, match=r"environment\.json .*; put a copy back, or remove it"):
        resume.starting_point(composed("resume=true"), run_dir)


def config_in_part(text: bytes, *, share: float, whole_lines: bool) -> bytes:
    text = text[: int(share * len(text))]
    return text[: text.rindex(b"\n") + 1] if whole_lines else text


@pytest.mark.parametrize("whole_lines", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_cut_config_is_named_and_no_other_configuration(composed, run_dir, share, whole_lines):
    file = run_dir / "config.yaml"
    file.write_bytes(config_in_part(file.read_bytes(), share=share, whole_lines=whole_lines))
    with pytest.raises(UserError, match=r"config\.yaml: damaged \(.*put a copy back, or remove it"):
        resume.starting_point(composed("resume=true"), run_dir)


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"a: [", b"just words", GARBAGE])
def test_a_config_of_another_kind_is_named(composed, run_dir, content):
    (run_dir / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml: damaged"):
        resume.starting_point(composed("resume=true"), run_dir)


@pytest.mark.parametrize("content", [b"", b'{"scores": {"a"', b"[]", b'{"seconds": 1}', GARBAGE])
def test_a_damaged_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result\.json .*remove it and resume=true goes on"):
        recorded_metric(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"model": "a"', b"[]", b'{"results": 3}', GARBAGE])
def test_scores_before_training_that_are_damaged_are_made_again(tmp_path, monkeypatch, content):
    made = Evaluation("codiemb/x", "1", "2", ())
    monkeypatch.setattr(task, "run_evaluation", lambda *args, **kwargs: made)
    (tmp_path / "before.json").write_bytes(content)
    said: list[str] = []
    assert task.evaluate_before(None, None, "x", tmp_path, seed=1, report=said.append) == made
    assert "before.json is damaged: evaluating again" in said[0]
    assert json.loads((tmp_path / "before.json").read_text("utf-8"))["model"] == "codiemb/x"
