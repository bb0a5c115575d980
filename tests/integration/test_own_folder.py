"""Own files all the way: dev scores as a run trains, the choice of a scale, the final scores, run_eval.py."""

import itertools
import json
from pathlib import Path

import pytest
import yaml

from codiemb.config.result import recorded_metric
from tests.support.harness import MICRO, Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with a file for each side, and training records, which are one side."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "pairs").mkdir()
    (folder / "records").mkdir()
    for side in ("dev", "test"):
        head(world / f"data/builtin/eval/{side}/FramesSTS/pairs.jsonl", folder / f"pairs/{side}.jsonl", 40)
    head(world / "data/builtin/train/frames_ir.jsonl", folder / "records/any.jsonl", 20)
    return folder


def head(source: Path, target: Path, num_lines: int) -> None:
    with source.open("rb") as lines:
        target.write_bytes(b"".join(itertools.islice(lines, num_lines)))


def read(file: Path):
    return json.loads(file.read_text("utf-8"))


def test_a_folder_is_dev_test_and_the_metric_of_searches(run: Run, world: Path, own: Path) -> None:
    folder = world / "outputs/finetune/own"
    task = ("task=folder", f"task.data={own}")
    result = run(
        "run_train.py",
        *(*MICRO, "model=bert_tiny", "max_steps=2", "model.learning_rate=0.01", "export.verify=false", *task),
        *(
            "evaluate.before=false",
            "evaluate.every_n_steps=1",
            "fuse_with_start=search",
            f"hydra.run.dir={folder}",
        ),
    )
    assert result.returncode == 0, result.stderr
    assert "records: its dev side is what is reported at the end, too" in result.stdout + result.stderr
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    seen = [line for line in logged if "val/pairs/cosine_spearman" in line]
    assert len(seen) >= 2
    assert all("val/records/ndcg@10" in line for line in seen)
    trials = {trial["options"].get("scale", 1.0): trial["scores"] for trial in read(folder / "search.json")}
    trained = {name.split("/")[1]: score for name, score in seen[-1].items() if name.startswith("val/")}
    assert trials[1.0] == pytest.approx(trained, abs=1e-4)  # the model in memory, and its export loaded again
    scores = read(folder / "result.json")["scores"]
    assert scores.keys() == {"pairs", "records"}
    assert recorded_metric(folder) == pytest.approx(sum(scores.values()) / 2)  # of a search with -m
    assert {name: value for line in logged for name, value in line.items() if name.startswith("test/")} == {
        "test/pairs/cosine_spearman": scores["pairs"],
        "test/records/ndcg@10": scores["records"],
        "test/mean": pytest.approx(sum(scores.values()) / 2),
    }

    files = (folder / "config_ran.yaml", folder / "config.yaml")
    ran, composed = (yaml.safe_load(file.read_text("utf-8")) for file in files)
    assert ran["trainer"] == composed["trainer"] | {"accelerator": "cpu", "num_nodes": 1}
    assert composed["trainer"]["accelerator"] == "auto"  # as typed: a resume compares that

    of_export = evaluated(run, world, folder / "export", *task)
    assert of_export == pytest.approx(scores, abs=1e-5)
    of_trained = evaluated(run, world, folder / "trained", *task, "task.split=dev")
    assert of_trained == pytest.approx(trained, abs=1e-4)

    again = world / "outputs/fuse/own"
    fused = run(
        "run_train.py",
        *("stage=fuse", f"fuse.checkpoints=[{folder / 'trained'}]", f"fuse.base={folder / 'start'}"),
        *("fuse.search=true", "fuse.search_scales=[0.5]", *task, "evaluate.before=false"),
        f"hydra.run.dir={again}",
    )
    assert fused.returncode == 0, fused.stderr
    assert {trial["options"].get("scale", 1.0): trial["scores"] for trial in read(again / "search.json")} == {
        scale: pytest.approx(trials[scale], abs=1e-6) for scale in (0.0, 0.5, 1.0)
    }


def evaluated(run: Run, world: Path, model: Path, *overrides: str) -> dict[str, float]:
    folder = world / f"outputs/eval/own-{model.name}"
    result = run("run_eval.py", *overrides, f"model.path={model}", f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    scores: dict[str, float] = read(folder / "result.json")["scores"]
    return scores
