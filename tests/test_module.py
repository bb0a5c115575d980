"""The Lightning module beside the trainer's options."""

from functools import partial

import pytest
import torch
from tiny_run import KNOWN_WARNINGS, TinyRun

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS]


def test_gradients_are_clipped_in_mixed_precision_beside_the_fused_optimizer_of_the_default_config(tmp_path):
    run = TinyRun(tmp_path / "run", steps=2, precision="bf16-mixed")
    run.module._optimizer = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    norms = []
    clip = run.module.clip_gradients

    def clip_and_measure(*args, **kwargs):
        clip(*args, **kwargs)
        gradients = [p.grad for p in run.module.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients))

    run.module.clip_gradients = clip_and_measure
    run.fit()
    assert run.trainer.global_step == 2
    assert len(norms) == 2
    torch.testing.assert_close(torch.stack(norms), torch.ones(2), atol=1e-3, rtol=0)
