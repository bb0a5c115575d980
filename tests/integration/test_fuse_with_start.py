"""A training run that ends with an average of its start and end: folders, tables, LoRA, a kill between."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.support.family import weights_of
from tests.support.harness import MICRO, UNEVALUATED, Run

pytestmark = pytest.mark.slow

SMALL = (*MICRO, "model=bert_tiny", "max_steps=3", "model.learning_rate=0.01", "export.verify=false")
DEV = ("task.split=dev", "task.tasks=[FramesSTS]")


def assert_average(folder: Path, scale: float, dtype: torch.dtype = torch.float32) -> None:
    """`export` is theta_0 + scale (theta - theta_0) of `start` and `trained`, which differ; rounded once."""
    start, trained, fused = (weights_of(folder / name) for name in ("start", "trained", "export"))
    assert fused.keys() == start.keys() == trained.keys()
    for name, tensor in fused.items():
        expected = start[name].double() + scale * (trained[name].double() - start[name].double())
        assert tensor.dtype == dtype
        assert start[name].dtype == trained[name].dtype == torch.float32
        torch.testing.assert_close(tensor, expected.to(dtype), rtol=1e-6, atol=1e-8)
    assert not all(torch.equal(start[name], trained[name]) for name in start)


def test_a_run_ends_with_a_scale_that_dev_chose_and_shows_before_after_and_fused(
    run: Run, world: Path
) -> None:
    folder = world / "outputs/finetune/with-start"
    bf16 = "encoder.encode_precision=bf16-mixed"
    options = (*SMALL, *DEV, bf16, "fuse_with_start=search", f"hydra.run.dir={folder}")
    result = run("run_train.py", *options)
    assert result.returncode == 0, result.stderr
    header, row = (  # the last: the search prints a table of its own
        [line for line in result.stdout.splitlines() if line.startswith(start)][-1].split()
        for start in ("Task ", "FramesSTS ")
    )
    assert header == ["Task", "Metric", "Before", "After", "Fused"]
    written = json.loads((folder / "result.json").read_text("utf-8"))
    trials = json.loads((folder / "search.json").read_text("utf-8"))
    scores = {trial["options"].get("scale", 1.0): trial["scores"] for trial in trials}
    assert list(scores) == [0.0, 0.3, 0.5, 0.7, 1.0]
    assert all(set(by_task) > {"FramesSTS"} for by_task in scores.values())  # chosen on all of the dev side
    scale = written["scale"]
    assert_average(folder, scale)
    dev = [scores[0.0]["FramesSTS"], written["trained"]["FramesSTS"], written["scores"]["FramesSTS"]]
    assert row[2:] == [f"{100 * score:.2f}" for score in dev]
    assert dev[1:] == pytest.approx([scores[1.0]["FramesSTS"], scores[scale]["FramesSTS"]], abs=1e-5)
    assert (world / "outputs/finetune/export").resolve() == folder / "export"
    for name in ("trained", "export"):
        assert (folder / name / "untrained.json").is_file()
    for name in ("before", "trained", "results"):
        settings = json.loads((folder / f"evaluation/{name}.json").read_text("utf-8"))["setup"]["settings"]
        assert settings["precision"] == "bf16-mixed"


def test_adapters_are_merged_first_and_a_kill_between_training_and_fusing_changes_nothing(
    run: Run, world: Path
) -> None:
    folder = world / "outputs/lora-with-start"
    bf16 = "export.dtype=bfloat16"
    options = (*SMALL, *UNEVALUATED, "model.lora.r=2", bf16, "fuse_with_start=0.5", f"hydra.run.dir={folder}")
    result = run("run_train.py", *options)
    assert result.returncode == 0, result.stderr
    assert_average(folder, 0.5, torch.bfloat16)
    assert AutoModel.from_pretrained(folder / "export").dtype == torch.bfloat16
    written = json.loads((folder / "result.json").read_text("utf-8"))
    assert (written["scale"], written["scores"], written["trained"]) == (0.5, {}, {})
    assert "0.5 of the way" in (folder / "export/README.md").read_text("utf-8")

    expected = weights_of(folder / "export")
    (folder / "result.json").unlink()  # as if killed before the average was there
    shutil.rmtree(folder / "export")
    shutil.rmtree(folder / "trained")
    (folder / "start" / "left.txt").write_text("of the first start")
    resumed = run("run_train.py", *options, "resume=true")
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "start" / "left.txt").is_file()
    again = weights_of(folder / "export")
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())
