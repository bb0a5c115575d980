"""Every published recipe trains: two steps of its debug twin, a tiny model of its architecture, on CPU."""

import json
import math
from pathlib import Path

import pytest

from tests.support.harness import Run
from tests.support.recipes import RECIPES

pytestmark = pytest.mark.slow
ARCHITECTURES = {
    "paper/e5_large_instruct": "xlm-roberta",
    "paper/minicpm": "granite",
    "nv_retriever": "mistral",
}


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_of_the_twin_train_and_export(name: str, run: Run, world: Path) -> None:
    folder = Path("outputs/recipes") / name
    stage = name.partition("/")[2] if name.startswith("youtu2b/") else "finetune"
    turns = ["sampler=alternate"] if stage == "finetune" else []  # a step of each task
    log = ["trainer.log_every_n_steps=1", "callbacks.probe=null"]
    result = run("run_train.py", f"experiment={name}", "debug=tiny", *turns, *log, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (world / folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = {key: row[key] for row in rows for key in row if key.startswith("train/loss/")}
    tasks = {"pretrain": {"lm"}, "align": {"ir"}, "finetune": {"ir", "sts"}}[stage]
    assert {key.split("/")[2] for key in losses} == tasks
    assert all(math.isfinite(loss) for loss in losses.values())
    exported = json.loads((world / folder / "export/config.json").read_text("utf-8"))
    default = "youtu" if name.startswith("youtu2b/") else "bert"
    assert exported["model_type"] == ARCHITECTURES.get(name, default)
    assert exported["num_hidden_layers"] == 2
