"""run_train.py end to end on the small world, as a user runs it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from codiemb.config.run_lock import LOCK_FILE, lock
from tests.support.forks import fork, hang, wait_for
from tests.support.harness import MICRO, TWO_RANKS, UNEVALUATED, Run

pytestmark = pytest.mark.slow


@pytest.fixture
def unchecked_shapes() -> None:
    """In these runs they are checked."""


def losses(run_dir: Path) -> dict[int, float]:
    """Loss by step from metrics.jsonl."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    found = {}
    for row in rows:
        for task in ("ir", "sts"):
            if f"train/loss/{task}" in row:
                found[row["step"]] = row[f"train/loss/{task}"]
    return found


@pytest.fixture
def trained(run: Run, world: Path) -> Path:
    """One short run with evaluation before and after on two tasks, made once; its folder."""
    folder = world / "outputs" / "finetune" / "first"
    if folder.is_dir():
        return folder
    result = run(
        "run_train.py",
        *MICRO,
        "max_steps=6",
        "trainer.log_every_n_steps=1",
        "task.split=dev",
        "task.tasks=[FramesSTS,FramesRetrieval]",
        "hydra.run.dir=outputs/finetune/first",
    )
    assert result.returncode == 0, result.stderr
    assert "FramesSTS" in result.stdout
    assert "Before" in result.stdout
    return folder


def test_a_run_leaves_config_environment_metrics_checkpoint_and_table(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "probe.jsonl",
        "report.html",
        "checkpoints",
        "export",
        "result.json",
    } <= names
    assert (trained / "checkpoints" / "last.ckpt").is_file()
    assert len(losses(trained)) == 6
    environment = json.loads((trained / "environment.json").read_text("utf-8"))
    assert environment["packages"]["torch"]
    assert (trained / "evaluation" / "results.md").is_file()
    assert (trained / "evaluation" / "before.json").is_file()


def test_the_exports_card_says_what_was_in_effect_and_ends_with_the_scores(trained: Path) -> None:
    card = ModelCard.load(trained / "export" / "README.md")
    scores = json.loads((trained / "result.json").read_text("utf-8"))["scores"]
    assert {result.dataset_name: result.metric_value for result in card.data.eval_results} == {
        task: round(100 * score, 2) for task, score in scores.items()
    }
    assert card.data.license == "unknown"
    for stated in (
        "Trained from random weights by CoDiEmb, stage finetune.",
        "| frames_sts | `data/builtin/train/frames_sts.jsonl` | 300 |",
        "| ir.info_nce | 1.0 x InfoNCE(temperature=0.02) |",
        "| steps | 6 |",
        "| precision | 32-true |",
        "| Task | Metric | Before | After |",
        "| `FramesSTS` |",
        "`FramesRetrieval-query`",
    ):
        assert stated in card.text
    assert str(trained.parents[2]) not in card.text  # where it was made says nothing elsewhere


def test_stages_chain_by_folder(trained: Path) -> None:
    link = trained.parent / "export"
    assert link.is_symlink()
    assert link.resolve() == (trained / "export").resolve()


def test_sentence_transformers_reads_the_export_and_gets_the_prompts(trained: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(trained / "export"), device="cpu")
    vectors = model.encode_query(["余额不足怎么办？", "How do I return an order?"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert "Instruction: " in model.prompts["query"]
    of_tasks = {"FramesRetrieval-query", "FramesRetrieval-document", "FramesSTS"}
    assert set(model.prompts) == {"query", "document", "frames_ir", "frames_sts", *of_tasks}


def test_run_eval_on_the_export_gives_the_scores_of_the_run(trained: Path, run: Run, world: Path) -> None:
    result = run(
        "run_eval.py",
        f"model.path={trained / 'export'}",
        "task.split=dev",
        "task.tasks=[FramesSTS,FramesRetrieval]",
        "hydra.run.dir=outputs/eval/first",
    )
    assert result.returncode == 0, result.stderr
    again = json.loads((world / "outputs/eval/first/result.json").read_text("utf-8"))["scores"]
    first = json.loads((trained / "result.json").read_text("utf-8"))["scores"]
    assert again == pytest.approx(first, abs=1e-6)
    assert "BM25" in result.stdout


def test_two_gloo_ranks_give_the_loss_curve_of_one_process(run: Run, run_process: Run, world: Path) -> None:
    common = [
        "max_steps=8",
        "trainer.log_every_n_steps=1",
        "export.enabled=false",
        "sampler=alternate",
    ]
    curves = []
    for ranks, start, strategy in ((1, run, ()), (2, run_process, TWO_RANKS)):
        folder = f"outputs/ranks/{ranks}"
        result = start("run_train.py", *MICRO, *UNEVALUATED, *common, *strategy, f"hydra.run.dir={folder}")
        assert result.returncode == 0, result.stderr
        curves.append(losses(world / folder))
    assert len(curves[0]) == 8
    # 1e-4: summation order differs between one and two processes, and eight Adam steps amplify it
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_accumulation_uses_the_same_examples_in_the_same_number_of_steps(run: Run, world: Path) -> None:
    result = run(
        "run_train.py",
        *MICRO,
        *UNEVALUATED,
        "max_steps=4",
        "trainer.log_every_n_steps=1",
        "trainer.accumulate_grad_batches=2",
        "logger.jsonl=null",  # nobody listens, and the run goes on
        "export.enabled=false",
        "hydra.run.dir=outputs/accumulated/run",
    )
    assert result.returncode == 0, result.stderr
    checkpoint = world / "outputs/accumulated/run/checkpoints/last.ckpt"
    import torch

    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4


def test_a_sweep_gives_every_job_a_folder_and_ends_with_one_table(run: Run, world: Path) -> None:
    result = run(
        "run_train.py",
        "-m",
        *MICRO,
        "evaluate.before=false",
        "max_steps=2",
        "export.enabled=false",
        "task.split=dev",
        "task.tasks=[FramesSTS]",
        "seed=1,2",
        "losses.sts.rank_kl.weight=0.3",
        "hydra.sweep.dir=multirun/finetune/sweep",
    )
    assert result.returncode == 0, result.stderr
    sweep = world / "multirun/finetune/sweep"
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
    jobs = json.loads((sweep / "sweep.json").read_text("utf-8"))
    assert len({job["scores"]["FramesSTS"] for job in jobs}) > 1
    assert "| seed=2 |" in " ".join((sweep / "sweep.md").read_text("utf-8").split())
    assert "sweep.md" in result.stdout


def test_own_files_train_any_encoder_that_transformers_loads(run: Run, world: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = world / "own" / "bert"
    tokenizer = AutoTokenizer.from_pretrained(world / "data/builtin/tokenizer")
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    rows = [
        {
            "task_type": "sts",
            "query": ["为通用领域句子生成表示", "", f"今天第{i}路公交车几点开"],
            "positives": [["为通用领域句子生成表示", "", f"第{i}路公交车今天几点发车"]],
            "negatives": [],
            "positive_scores": [i % 6],
            "negative_scores": [],
        }
        for i in range(40)
    ]
    ir = [
        {"task_type": "ir", "query": ["Find it", "", f"q {i}"], "positives": [["", "", f"p {i}"]]}
        for i in range(40)
    ]
    (world / "own" / "sts.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (world / "own" / "ir.jsonl").write_text("\n".join(map(json.dumps, ir)), "utf-8")
    result = run(
        "run_train.py",
        "data=files",
        "data.files=[own/ir.jsonl,own/sts.jsonl]",
        "data.score_range=[0,5]",
        "model.path=own/bert",
        *(m for m in MICRO if not m.startswith(("~", "model."))),
        *UNEVALUATED,
        "max_steps=3",
        "hydra.run.dir=outputs/own/run",
    )
    assert result.returncode == 0, result.stderr
    assert "own/bert is a bert model, model=youtu_tiny is made for a youtu" in result.stdout
    assert (world / "outputs/own/run/export/modules.json").is_file()


def hold(folder: Path) -> None:
    lock(folder)
    os.write(2, b"locked")
    hang()


def test_a_folder_in_use_is_refused_by_every_script_and_left_as_it_is(
    run: Run, world: Path, tmp_path: Path
) -> None:
    folder = world / "outputs" / "held"
    holder = fork(hold, folder, output=tmp_path / "said")
    try:
        wait_for(tmp_path / "said", "locked")
        for script, *options in (
            ("run_train.py", "hydra.run.dir=outputs/held"),
            ("run_train.py", "hydra.run.dir=outputs/held", "resume=true"),
            ("run_train.py", "hydra.run.dir=outputs/held", "stage=fuse", "fuse.checkpoints=[a,b]"),
            ("run_train.py", "-m", "hydra.sweep.dir=outputs/held", "seed=1,2"),
            ("run_eval.py", "hydra.run.dir=outputs/held"),
        ):
            result = run(script, *options)
            assert result.returncode == 2, (options, result.stderr)
            assert f"outputs/held is in use by process {holder.pid} on host " in result.stderr
    finally:
        holder.kill()
        holder.join()
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
