"""Three stages, each one task of the same trainer, chained by folder: pretrain -> align -> finetune."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.harness import UNEVALUATED, Run

pytestmark = pytest.mark.slow

SMALL = (
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "model.prompt.query='Task: {instruction} Query: '",  # not the default: the chain must keep it
    "data.num_workers=0",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "logger=local",
    "callbacks.probe=null",  # 3 s a run, and tests/integration/test_train.py has it
)
PRETRAIN = (
    "stage=pretrain",
    *SMALL,
    *UNEVALUATED,
    "tasks.lm.global_batch_size=16",
    "head_learning_rate=null",  # the optimizer's, which the tests set high
)
TASKS = ("ir", "sts")
NEXT = SMALL[3:]  # the folder of the stage before has the model


@pytest.fixture
def unchecked_shapes() -> None:
    """In these runs they are checked."""


def metrics(folder: Path, name: str) -> list[float]:
    """One value a step."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row[name] for row in rows if name in row]


@pytest.fixture
def pretrained(run: Run, world: Path) -> Path:
    """A short pretraining run, made once."""
    folder = world / "outputs" / "pretrain" / "first"
    if not folder.is_dir():
        where = "hydra.run.dir=outputs/pretrain/first"
        masks = ("tasks.lm.mask_share=0.5", "tasks.lm.num_windows=2")
        result = run("run_train.py", *PRETRAIN, "max_steps=40", "optimizer.lr=1e-2", *masks, where)
        assert result.returncode == 0, result.stderr
    return folder


def test_masked_prediction_starts_from_the_frequencies_of_tokens_and_learns(pretrained: Path) -> None:
    loss = metrics(pretrained, "train/loss/lm")
    vocabulary = json.loads((pretrained / "export" / "config.json").read_text("utf-8"))["vocab_size"]
    assert len(loss) == 40
    assert loss[0] < np.log(vocabulary) - 0.5  # a head of zeros alone would start at ln(vocabulary)
    assert np.mean(loss[-5:]) < np.mean(loss[:5]) - 0.1
    accuracy = metrics(pretrained, "train/loss/lm/tokens/accuracy")
    assert np.mean(accuracy[-20:]) > 10 / vocabulary
    perplexity = metrics(pretrained, "train/loss/lm/tokens/perplexity")
    assert perplexity == pytest.approx(np.exp(loss), rel=1e-3)


def test_the_head_is_trained_and_kept_in_the_checkpoint_but_not_in_the_export(pretrained: Path) -> None:
    from safetensors import safe_open

    state = torch.load(pretrained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["head.weight"].any()
    with safe_open(pretrained / "export" / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert len(names) == len(state) - 2  # weight and bias of the head


def test_the_stages_chain_by_folder_and_keep_prompts_and_weights(
    pretrained: Path, run: Run, world: Path
) -> None:
    stages = (
        ("align", "pretrain", ("encoder.max_tokens_per_chunk=256", "tasks.ir.global_batch_size=32")),
        ("finetune", "align", ("~data.sources.docs_ir", *(f"tasks.{t}.global_batch_size=16" for t in TASKS))),
    )
    for stage, before, more in stages:
        path = f"outputs/{before}/export"
        result = run(
            "run_train.py", f"stage={stage}", f"model.path={path}", *NEXT, *UNEVALUATED, "max_steps=3", *more
        )
        assert result.returncode == 0, result.stderr
        assert "model.prompt" in result.stdout  # told that the folder's prompt wins
        export = world / "outputs" / stage / "export"
        settings = json.loads((export / "codiemb.json").read_text("utf-8"))["model"]
        assert settings["prompt"]["query"] == "Task: {instruction} Query: "
        run_dir = export.resolve().parent
        assert np.isfinite(metrics(run_dir, "train/loss/ir")).all()

    from safetensors.torch import load_file

    weights = [
        load_file(world / f"outputs/{s}/export/model.safetensors") for s in ("pretrain", "align", "finetune")
    ]
    for before, after in itertools.pairwise(weights):
        for name in before:
            used = slice(1, None) if name.startswith("embed") else slice(None)  # padding is zeroed at loading
            moved = (after[name] - before[name])[used].abs().max()
            assert 0 < moved < 0.01  # three steps of Adam at 1e-3: the stage went on from the one before


def test_causal_pretraining_predicts_every_next_token(run: Run, world: Path) -> None:
    folder = "outputs/causal/run"
    result = run(
        "run_train.py",
        *PRETRAIN,
        "model.attention=causal",
        "tasks.lm.mask_share=null",
        "max_steps=25",
        "optimizer.lr=1e-2",
        "export.enabled=false",
        f"hydra.run.dir={folder}",
    )
    assert result.returncode == 0, result.stderr
    loss = metrics(world / folder, "train/loss/lm")
    assert np.mean(loss[-3:]) < np.mean(loss[:3]) - 0.1
    assert min(metrics(world / folder, "train/loss/lm/tokens/num_targets")) > 150  # of about 16 x 15 tokens


def test_finetuning_takes_classification_pair_classification_and_reranking(run: Run, world: Path) -> None:
    result = run(
        "run_train.py",
        "data=builtin_all",
        *SMALL,
        *UNEVALUATED,
        "sampler=alternate",
        "tasks.ir.global_batch_size=16",
        "tasks.sts.global_batch_size=16",
        "max_steps=6",
        "hydra.run.dir=outputs/all/run",
    )
    assert result.returncode == 0, result.stderr
    for name in (
        "frames_classification: 100 ir",
        "frames_pair_classification: 100 sts",
        "frames_reranking: 40 ir",
    ):
        assert name in result.stdout
    for task in TASKS:
        loss = metrics(world / "outputs/all/run", f"train/loss/{task}")
        assert loss
        assert np.isfinite(loss).all()
    prompts = json.loads(
        (world / "outputs/all/run/export/config_sentence_transformers.json").read_text("utf-8")
    )
    assert "frames_classification" in prompts["prompts"]
