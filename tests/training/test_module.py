"""The Lightning module beside the trainer's options."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from codiemb.encoder.head import LanguageHead
from tests.support.tiny_run import KNOWN_WARNINGS, TinyRun

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


def test_a_head_has_a_learning_rate_of_its_own_and_every_parameter_one_group(tmp_path):
    module = TinyRun(tmp_path / "run").module
    module._trainer = SimpleNamespace(datamodule=None, estimated_stepping_batches=10)
    module.head = LanguageHead(torch.zeros(5, 4), torch.zeros(5))
    module._head_learning_rate = 0.5
    optimizer = module.configure_optimizers()["optimizer"]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 0.5]
    encoder, head = (set(map(id, group["params"])) for group in optimizer.param_groups)
    assert head == set(map(id, module.head.parameters()))
    assert encoder | head == {id(p) for p in module.parameters() if p.requires_grad}
