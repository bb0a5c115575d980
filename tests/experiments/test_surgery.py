"""Gradient surgery against its formula in float64, and in a run."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from codiemb.errors import UserError
from experiments.laboratory.surgery import GradientSurgery, without_conflict

pytestmark = pytest.mark.filterwarnings("ignore")  # third-party warnings of Lightning
ENTRIES = st.lists(
    st.floats(-10, 10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=6, max_size=6
)


def pcgrad(first, second):
    """Algorithm 1 of arXiv:2001.06782 for two tasks, as it is written there."""
    g1, g2 = np.asarray(first, np.float64), np.asarray(second, np.float64)
    left, right = g1.copy(), g2.copy()
    if left @ g2 < 0:
        left -= (left @ g2) / (g2 @ g2) * g2
    if right @ g1 < 0:
        right -= (right @ g1) / (g1 @ g1) * g1
    return left + right


@given(ENTRIES, ENTRIES)
def test_it_is_the_published_algorithm(first, second):
    found = without_conflict(
        torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    )
    np.testing.assert_allclose(found.numpy(), pcgrad(first, second), atol=1e-9)


class Conflicting(pl.LightningModule):
    """Gradients of (1, 2) for the first batch of a step and (1, -1) for the second; `idle` has none."""

    def __init__(self):
        super().__init__()
        self.weight, self.idle = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return (
            self.weight * (torch.tensor([1.0, -1.0]) if batch_idx % 2 else torch.tensor([1.0, 2.0]))
        ).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(tmp_path, **trainer):
    module = Conflicting()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(
        accelerator="cpu",
        max_steps=3,
        callbacks=[GradientSurgery()],
        default_root_dir=tmp_path,
        enable_model_summary=False,
        **quiet,
        **trainer,
    ).fit(module, torch.utils.data.DataLoader(range(8), batch_size=1))
    return module


def test_every_step_takes_the_sum_without_conflict(tmp_path):
    module = fit(tmp_path, accumulate_grad_batches=2)
    step = pcgrad([0.5, 1.0], [0.5, -0.5])  # Lightning halves the losses
    np.testing.assert_allclose(module.weight.detach().numpy(), -3 * step, rtol=1e-6)
    assert module.idle.item() == 0


def test_another_number_of_batches_a_step_is_refused(tmp_path):
    with pytest.raises(UserError, match="batches_per_step=2"):
        fit(tmp_path)
