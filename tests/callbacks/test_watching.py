"""Watching training changes nothing, and what is logged is what an independent computation gives."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch.nn.functional import cosine_similarity

from codiemb.callbacks.gradient_cosine import GradientCosine, draw_samples, sampled_gradient
from codiemb.callbacks.looks import DevMetrics
from codiemb.callbacks.statistics import EmbeddingStatistics
from codiemb.config.logged_results import log_scores
from codiemb.config.schema import EvaluationTaskConfig
from codiemb.evaluation.results import Evaluation, TaskScore
from codiemb.metrics import cosine, embedding_statistics
from codiemb.training.due import is_due
from experiments.dashboards.panels import SECTIONS
from tests.support import golden_run
from tests.support.paths import ROOT

WATCHERS = ("probe", "embedding_statistics", "gradient_cosine")
pytestmark = pytest.mark.filterwarnings("ignore")  # third-party warnings of Lightning


class Kept(pl.Callback):
    """What a test needs to know of a run: gradients of whole steps, and the embedded batches."""

    def __init__(self) -> None:
        self.gradients: list[tuple[str, dict[str, torch.Tensor]]] = []
        self.batches: list[tuple[str, object]] = []
        self.task = ""

    def on_train_start(self, trainer, pl_module) -> None:
        for task, loss in pl_module.losses.items():
            loss.register_forward_pre_hook(
                lambda _, inputs, task=task: self.batches.append((task, inputs[0]))
            )

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.task = batch.task

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        named = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        self.gradients.append((self.task, named))


def train(folder: Path, *overrides: str, extra: tuple[pl.Callback, ...] = ()) -> pl.LightningModule:
    """Six steps of the default recipe, with dropout, on the golden files."""
    return golden_run.fit(
        folder,
        "model=bert_tiny",
        "model.architecture.hidden_dropout_prob=0.1",
        "model.architecture.hidden_size=32",
        "model.architecture.intermediate_size=64",
        "max_steps=6",
        "sampler=alternate",
        "trainer.log_every_n_steps=2",
        "trainer.accumulate_grad_batches=2",
        *overrides,
        callbacks=extra,
    )


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> tuple[Path, pl.LightningModule, Kept]:
    folder = tmp_path_factory.mktemp("watched")
    kept = Kept()

    def evaluate(encoder) -> dict[str, float]:
        encoder.encode(["a text"])
        return {"Toy/ndcg@10": 0.5}

    settings = ("callbacks.probe.every_n_steps=2", "callbacks.probe.num_records=20")
    extra = (DevMetrics(evaluate, every_n_steps=3), kept)
    module = train(folder, *settings, extra=extra)
    score = TaskScore("Toy", "Retrieval", "ndcg_at_10", 0.5, 1.0, 5, {}, ("test",), "r1")
    result = Evaluation("toy", "unknown", "2.26", (score,))
    log_scores(module.trainer, EvaluationTaskConfig(), result, result)
    return folder, module, kept


def test_the_weights_are_bit_equal_with_and_without_watching(watched, tmp_path: Path) -> None:
    _, module, _ = watched
    plain = train(tmp_path, *(f"~callbacks.{name}" for name in WATCHERS))
    ours, theirs = module.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_losses_are_left_without_hooks(watched) -> None:
    _, module, _ = watched
    assert all(not loss._forward_hooks for loss in module.losses.values())


def test_statistics_are_those_of_the_first_batch_of_each_task_and_window(watched) -> None:
    folder, _, kept = watched
    logged = [row for row in rows(folder) if "train/uniformity/ir" in row]
    # a window of two steps holds one step of each task, a step two micro-batches: the first of them counts
    for row in logged:
        window = (row["step"] + 1) // 2 - 1
        of_window = kept.batches[4 * window : 4 * window + 4]
        for task in ("ir", "sts"):
            first = next(batch for name, batch in of_window if name == task)
            for name, value in embedding_statistics(first).items():
                assert row[f"train/{name}/{task}"] == pytest.approx(float(value), rel=1e-6)
    assert [row["step"] for row in logged] == [1, 3, 5]


def test_the_gradient_cosine_is_that_of_whole_accumulated_steps_without_embeddings(watched) -> None:
    folder, module, kept = watched
    logged = {
        row["step"]: row["train/gradient_cosine/ir_sts"] for row in rows(folder) if "train/loss/ir" in row
    }
    names = [name for name, _ in module.named_parameters() if "embeddings.weight" not in name]
    size = {name: p.numel() for name, p in module.named_parameters()}
    assert max(size[name] for name in names) <= 4_096  # so nothing is sampled
    assert len(names) < len(size)
    for step in (1, 3, 5):
        of_tasks = kept.gradients[step - 1 : step + 1]
        assert {task for task, _ in of_tasks} == {"ir", "sts"}
        first, second = (
            torch.cat([g[n].flatten().double() if n in g else torch.zeros(size[n]).double() for n in names])
            for _, g in of_tasks
        )
        assert logged[step] == pytest.approx(float(cosine_similarity(first, second, dim=0)), abs=1e-6)


def test_a_sample_estimates_the_cosine_of_large_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Linear(300, 1_000), torch.nn.Embedding(50, 8), torch.nn.Linear(4, 3)
    )
    samples = draw_samples(module, 4_096)
    assert [len(s.entries) for s in samples] == [4_096, 1_000, 12, 3]
    whole, estimated = [], []
    shared = [torch.randn(p.shape, generator=generator) for p in module.parameters()]
    for _ in range(2):
        for parameter, common in zip(module.parameters(), shared, strict=True):
            parameter.grad = common + torch.randn(parameter.shape, generator=generator)
        dense = [p.grad.flatten() for name, p in module.named_parameters() if not name.startswith("1.")]
        whole.append(torch.cat(dense))
        estimated.append(sampled_gradient(samples))
    expected = float(cosine_similarity(*whole, dim=0))
    assert expected == pytest.approx(0.5, abs=0.01)
    assert float(cosine(*estimated)) == pytest.approx(expected, abs=4 / 4_096**0.5)


@pytest.fixture
def trainer() -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


def test_a_sharded_strategy_switches_the_gradient_cosine_off_with_one_line(
    trainer, watched, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(pl.Trainer, "strategy", FSDPStrategy())
    _, module, _ = watched
    callback = GradientCosine()
    with caplog.at_level(logging.INFO):
        callback.on_train_start(trainer, module)
        # an optimizer step outside of training: `log` would raise if the callback looked
        callback.on_before_optimizer_step(trainer, module, torch.optim.SGD(module.parameters()))
    lines = [
        record.getMessage() for record in caplog.records if record.name == "codiemb.callbacks.gradient_cosine"
    ]
    assert lines == ["train/gradient_cosine is off: FSDPStrategy keeps gradients in shards"]


def test_a_loss_that_sees_no_embeddings_is_passed_over(trainer, watched) -> None:
    _, module, _ = watched
    with torch.no_grad():
        states = (torch.ones(3),)
        EmbeddingStatistics()._look(trainer, module, "lm", torch.nn.Identity(), states, None)  # logs nothing


def test_the_probe_is_looked_at_before_during_and_after(watched) -> None:
    folder, _, _ = watched
    looks = [json.loads(line) for line in (folder / "probe.jsonl").read_text("utf-8").splitlines()]
    assert [(look["step"], look["source"]) for look in looks] == [
        (step, source) for step in (0, 2, 4, 6) for source in ("ir", "sts")
    ]
    assert all(look["num_queries"] == 20 for look in looks)
    by_step = {row["step"]: row for row in rows(folder) if "probe/ir/ndcg@10" in row}
    assert by_step[6]["probe/ir/ndcg@10"] == looks[-2]["metrics"]["ndcg@10"]


def test_dev_metrics_are_logged_every_so_many_steps_and_at_both_ends(watched) -> None:
    folder, _, _ = watched
    assert [row["step"] for row in rows(folder) if "val/Toy/ndcg@10" in row] == [0, 3, 6]


def test_an_evaluation_is_due_at_multiples_only() -> None:
    assert [step for step in range(10) if is_due(step, 4)] == [4, 8]
    assert not is_due(4, None)


def test_every_panel_of_the_dashboard_shows_something_of_a_run(watched) -> None:
    folder, _, _ = watched
    names = {name for row in rows(folder) for name in row} - {"step", "time", "epoch"}
    patterns = [pattern for panels in SECTIONS.values() for _, pattern in panels]
    shown = {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}
    assert [p for p in patterns if not any(re.fullmatch(p, name) for name in names)] == []
    unseen = {name for name in names - shown if not name.startswith("probe/")}
    assert unseen == {"train/loss/sts/mid_nce/num_anchors"}


def test_the_dashboard_s_definition_holds_every_panel() -> None:
    command = [sys.executable, "-m", "experiments.dashboards.wandb_workspace", "someone", "--dry-run"]
    definition = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    ).stdout
    sections = json.loads(definition)["spec"]["section"]["panel_bank_config"]["sections"]
    found = {section["name"]: [panel["config"] for panel in section["panels"]] for section in sections}
    for name, panels in SECTIONS.items():
        titles = [(config["chart_title"], config["metric_regex"]) for config in found[name]]
        assert titles == [(title, f"^{pattern}$") for title, pattern in panels]
