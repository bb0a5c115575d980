"""stage=fuse end to end: checkpoints of two seeds from one initialisation, fused, evaluated, searched."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.harness import MICRO, UNEVALUATED, Run

pytestmark = pytest.mark.slow

DEV = ("task.split=dev", "task.tasks=[FramesSTS]")


@pytest.fixture(scope="module")
def family(world: Path) -> dict[str, Path]:
    """Folders of a base and two checkpoints trained from it, filled by `trained`."""
    return {name: world / "outputs" / "fusion" / name for name in ("base", "seed1", "seed2")}


@pytest.fixture
def trained(run: Run, family: dict[str, Path]) -> dict[str, Path]:
    def train(name: str, *overrides: str) -> None:
        if not (family[name] / "export").is_dir():
            result = run("run_train.py", *MICRO, *UNEVALUATED, *overrides, f"hydra.run.dir={family[name]}")
            assert result.returncode == 0, result.stderr

    train("base", "max_steps=1", "optimizer.lr=0")
    for seed in (1, 2):
        train(f"seed{seed}", "max_steps=3", f"seed={seed}", f"model.path={family['base'] / 'export'}")
    return family


def fuse_overrides(trained: dict[str, Path]) -> list[str]:
    """A run folder and an export: both stand for the model."""
    checkpoints = f"fuse.checkpoints=[{trained['seed1']},{trained['seed2'] / 'export'}]"
    return ["stage=fuse", checkpoints, f"fuse.base={trained['base']}", *DEV]


def result_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "result.json").read_text("utf-8"))["scores"]


def test_a_learning_rate_of_zero_exports_the_initial_weights(trained: dict[str, Path], run: Run) -> None:
    """What docs/fusion.md tells to do where checkpoints start from random weights: step 1 changes nothing."""
    again = trained["base"].with_name("again")
    overrides = (f"model.path={trained['base'] / 'export'}", "max_steps=2", "optimizer.lr=0")
    result = run("run_train.py", *MICRO, *UNEVALUATED, *overrides, f"hydra.run.dir={again}")
    assert result.returncode == 0, result.stderr
    base, same, other = (
        load_file(folder / "export/model.safetensors")
        for folder in (trained["base"], again, trained["seed1"])
    )
    for state in (base, same):
        state["embed_tokens.weight"][0] = 0  # the padding token's row, which transformers zeroes as it loads
    assert all(torch.equal(base[name], same[name]) for name in base)
    assert not all(torch.equal(base[name], other[name]) for name in base)


def test_fusing_prints_a_column_per_checkpoint_and_leaves_an_export_that_run_eval_scores_the_same(
    trained: dict[str, Path], run: Run, world: Path
) -> None:
    folder = world / "outputs/fuse/first"
    result = run("run_train.py", *fuse_overrides(trained), f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    header = next(line for line in result.stdout.splitlines() if line.startswith("Task "))
    assert header.split() == ["Task", "Metric", "1", "2", "Fused"]
    row = next(line for line in result.stdout.splitlines() if line.startswith("FramesSTS ")).split()
    fused = result_of(folder)["FramesSTS"]
    assert row[-1] == f"{100 * fused:.2f}"
    for number in (1, 2):
        single = json.loads((folder / f"evaluation/checkpoint_{number}.json").read_text("utf-8"))
        assert row[1 + number] == f"{100 * single['results'][0]['score']:.2f}"
    assert {"config.yaml", "environment.json", "export", "evaluation"} <= {p.name for p in folder.iterdir()}
    assert (world / "outputs/fuse/export").resolve() == folder / "export"
    assert "Evaluation" in (folder / "report.html").read_text("utf-8")
    record = json.loads((folder / "export/fusion.json").read_text("utf-8"))
    assert record["options"] == {"exponent": 1.0, "granularity": "row", "norm": "l2"}
    assert sum(row["weight"] for row in record["checkpoints"]) == pytest.approx(1, abs=1e-5)
    card = (folder / "export/README.md").read_text("utf-8")
    assert f"seed1`, weight {record['checkpoints'][0]['weight']:.3f}" in card
    assert re.search(rf"^\| FramesSTS +\|.* {100 * fused:.2f} \|$", card, re.MULTILINE)

    result = run("run_eval.py", "model.path=outputs/fuse/export", *DEV, "hydra.run.dir=outputs/eval/fused")
    assert result.returncode == 0, result.stderr
    assert result_of(world / "outputs/eval/fused")["FramesSTS"] == pytest.approx(fused, abs=1e-6)


def test_a_search_scores_the_grid_on_the_dev_side_and_fuses_the_best(
    trained: dict[str, Path], run: Run, world: Path
) -> None:
    folder = world / "outputs/fuse/searched"
    grid = (
        "fuse.search_exponents=[-1,0,2]",
        "fuse.search_granularities=[tensor,element]",
        "fuse.search_scales=[]",
    )
    overrides = [o for o in fuse_overrides(trained) if o != "task.split=dev"]
    result = run("run_train.py", *overrides, "fuse.search=true", *grid, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    trials = json.loads((folder / "search.json").read_text("utf-8"))
    assert [(t["options"]["exponent"], t["options"]["granularity"]) for t in trials] == [
        (-1, "tensor"), (-1, "element"), (0, "tensor"), (2, "tensor"), (2, "element"),
    ]  # fmt: skip
    best = max(trials, key=lambda trial: trial["score"])
    record = json.loads((folder / "export/fusion.json").read_text("utf-8"))
    assert record["options"] == best["options"]
    assert len({trial["score"] for trial in trials}) > 1
    assert f"{100 * best['score']:.2f}" in result.stdout
    assert not [path for path in folder.iterdir() if path.name.startswith(".search")]
    again = run("run_eval.py", f"model.path={folder / 'export'}", *DEV, "hydra.run.dir=outputs/eval/dev")
    assert again.returncode == 0, again.stderr
    assert result_of(world / "outputs/eval/dev")["FramesSTS"] == pytest.approx(best["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["fuse.checkpoints=[seed1]"], "fuse.scale=1 of one checkpoint is seed1 itself"),
        (
            ["fuse.base=null"],
            "fuse.method=delta measures how far each checkpoint moved: set fuse.base=FOLDER",
        ),
        (["fuse.base=nowhere"], "nowhere is no folder: give an export"),
        (["fuse.checkpoints=[nowhere,data]"], "nowhere is no folder: give an export"),
        (["fuse.checkpoints=[data,nowhere]"], "data has no config.json: give an export"),
        (
            ["fuse.search=true", "task=mteb", "task.tasks=[STS12]"],
            "fuse.search=true chooses on the dev side of task=builtin",
        ),
        (
            ["fuse.search=true", "fuse.method=uniform", "fuse.base=null"],
            "nothing to choose with fuse.method=uniform",
        ),
        (["fuse.search=true", "fuse.search_granularities=[layer]"], "fuse.granularity='layer' is none of"),
        (["fuse.exponnet=1"], "exponnet"),
        (["+fuse.exponnet=1"], "fuse.exponnet: no such key; did you mean exponent?"),
    ],
)
def test_a_fusion_that_cannot_be_is_one_error_before_any_work(
    trained: dict[str, Path], run: Run, world: Path, overrides: list[str], says: str
) -> None:
    folder = world / "outputs/refused/run"
    result = run("run_train.py", *fuse_overrides(trained), *overrides, f"hydra.run.dir={folder}")
    assert result.returncode != 0
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert "evaluating" not in result.stdout
    assert not (folder / "export").exists()
