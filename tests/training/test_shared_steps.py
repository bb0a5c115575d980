"""`batches_per_step`: an optimizer step of several single-task batches, each with its own loss."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from codiemb.errors import UserError
from tests.support import golden_run

pytestmark = pytest.mark.filterwarnings("ignore")  # third-party warnings of Lightning
SIZE = ("model.architecture.hidden_size=32", "model.architecture.intermediate_size=64")


class Steps(pl.Callback):
    """The tasks of each optimizer step's micro-batches, and its gradient."""

    def __init__(self) -> None:
        self.tasks: list[list[str]] = [[]]
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.tasks[-1].append(batch.task)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        named = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        self.gradients.append(named)
        self.tasks.append([])


def train(folder: Path, *overrides: str) -> Steps:
    """With dropout, and without moving the weights, so that gradients of different steps can be compared."""
    steps = Steps()
    dropout = "model.architecture.hidden_dropout_prob=0.1"
    still = ("optimizer.lr=0.0", "sampler=alternate", "trainer.accumulate_grad_batches=2")
    golden_run.fit(folder, "model=bert_tiny", dropout, *SIZE, *still, *overrides, callbacks=(steps,))
    return steps


def test_a_shared_step_has_the_mean_of_its_tasks_gradients_and_the_same_batches(tmp_path, caplog):
    apart = train(tmp_path / "apart", "max_steps=4")
    with caplog.at_level("INFO"):
        shared = train(tmp_path / "shared", "max_steps=2", "batches_per_step=2")
    assert apart.tasks == [["ir"] * 2, ["sts"] * 2, ["ir"] * 2, ["sts"] * 2, []]
    assert shared.tasks == [["ir", "ir", "sts", "sts"]] * 2 + [[]]
    assert "train/gradient_cosine is off: a step has the gradients of several batches" in caplog.text
    for step, found in enumerate(shared.gradients):
        first, second = apart.gradients[2 * step : 2 * step + 2]
        for name, gradient in found.items():
            zero = torch.zeros_like(gradient)
            expected = (first.get(name, zero) + second.get(name, zero)) / 2
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


def test_it_must_be_a_count(tmp_path):
    with pytest.raises(UserError, match="batches_per_step=0 must be at least 1"):
        train(tmp_path, "batches_per_step=0")
