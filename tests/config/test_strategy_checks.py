"""Strategies and precisions that could not train exactly are refused before a run starts."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator, MPSAccelerator

from codiemb.config import assemble, strategy
from codiemb.config.preflight import preflight
from codiemb.config.typed import typed_train
from codiemb.data import TaskSpec
from codiemb.errors import UserError
from tests.support import tiny


def test_language_modelling_is_refused_where_deepspeed_would_not_train_it_exactly(composed):
    for zero in (1, 3):
        cfg = typed_train(composed("stage=pretrain", f"strategy=deepspeed_zero{zero}"))
        preflight(cfg)
    cfg.tasks["ir"], cfg.losses["ir"] = TaskSpec(), {"info_nce": {"_target_": "codiemb.losses.InfoNCE"}}
    with pytest.raises(UserError, match=r"steps of other tasks \(lm, ir\)"):
        preflight(cfg)


def test_deepspeed_without_a_gpu_or_with_weights_it_would_refuse_is_one_error(composed, monkeypatch):
    def build_it(*overrides: str) -> pl.Trainer:
        cpu = ("strategy=deepspeed_zero1", "logger=local", "trainer.accelerator=cpu")
        return assemble.build_trainer(typed_train(composed(*cpu, *overrides)))

    with pytest.raises(UserError, match=r"needs CUDA GPUs, and this run would use CPUAccelerator; strategy="):
        build_it()
    monkeypatch.setattr(strategy, "CUDAAccelerator", CPUAccelerator)
    with pytest.raises(UserError, match=r"bfloat16 with DeepSpeed needs .*precision=bf16-true, not 32-true"):
        build_it("model.dtype=bfloat16")
    assert build_it("model.dtype=bfloat16", "trainer.precision=bf16-true").strategy.config is not None


def test_several_devices_need_a_strategy_that_is_named(composed):
    devices = ("logger=local", "trainer.accelerator=cpu", "trainer.devices=2")
    with pytest.raises(UserError, match=r"2 devices need to know how they share the work: strategy=ddp"):
        assemble.build_trainer(typed_train(composed(*devices)))
    assert assemble.build_trainer(typed_train(composed("strategy=ddp", *devices))).world_size == 2


@pytest.mark.filterwarnings("ignore:GPU available but not used")
def test_an_apple_gpu_is_not_taken_and_cannot_be_asked_for(composed, monkeypatch):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer = assemble.build_trainer(typed_train(composed("logger=local")))
    assert isinstance(trainer.accelerator, CPUAccelerator)
    with pytest.raises(UserError, match=r"trainer\.accelerator=mps: .* use cpu"):
        assemble.build_trainer(typed_train(composed("logger=local", "trainer.accelerator=mps")))
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu: torch sees no CUDA"):
        assemble.build_trainer(typed_train(composed("logger=local", "trainer.accelerator=gpu")))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "transformer-engine"])
def test_weights_in_half_precision_need_an_optimizer_with_fp32_copies(refused, composed, precision):
    said = refused(f"trainer.precision={precision}")
    assert "round most weight updates away; bf16-mixed keeps fp32" in said
    preflight(typed_train(composed("trainer.precision=bf16-true", "strategy=deepspeed_zero2")))
    preflight(typed_train(composed("trainer.precision=bf16-mixed")))


def test_adamw_moves_no_bf16_weight_above_a_size_and_every_fp32_weight():
    """What the refusal rests on: the step is about the learning rate, bf16 rounds to 1/256 of the weight."""

    def moved(dtype: torch.dtype) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        start = torch.normal(0.0, 0.02, (10_000,), generator=generator).to(dtype)
        weight = start.clone().requires_grad_()
        optimizer = torch.optim.AdamW([weight], lr=4e-5, weight_decay=0.0)
        for _ in range(20):
            # of one size and any sign: Adam's step is then never longer than the learning rate
            weight.grad = torch.randn(10_000, generator=generator).sign().to(dtype)
            optimizer.step()
        large = start.abs() > 2**-6
        assert 0.4 < large.double().mean() < 0.5
        return (weight != start)[large]

    assert moved(torch.float32).double().mean() > 0.99
    assert not moved(torch.bfloat16).any()


def test_trained_weights_are_fp32_but_those_that_stay_or_that_deepspeed_copies(composed):
    def trained(*overrides: str) -> str:
        return assemble.training_model(typed_train(composed("model=youtu2b", *overrides))).dtype

    assert trained() == "float32"
    assert trained("strategy=fsdp") == "float32"
    assert trained("model.lora.r=16") == "bfloat16"
    assert trained("strategy=deepspeed_zero3", "trainer.precision=bf16-true") == "bfloat16"


def test_ddp_with_a_head_that_not_all_steps_use_must_look_for_unused_parameters(composed):
    cfg = typed_train(composed("stage=pretrain", "strategy=ddp"))
    preflight(cfg)
    cfg.tasks["ir"], cfg.losses["ir"] = TaskSpec(), {"info_nce": {"_target_": "codiemb.losses.InfoNCE"}}
    with pytest.raises(UserError, match=r"\+strategy\.find_unused_parameters=true"):
        preflight(cfg)
    cfg.strategy["find_unused_parameters"] = True
    preflight(cfg)


def test_a_limit_that_the_model_has_no_positions_for_is_said(composed, byte_level, caplog):
    cfg = typed_train(composed("tasks.ir.max_document_tokens=200", "stage=finetune"))
    tokenizer = tiny.tiny_encoder("bert", byte_level).tokenizer  # 128 positions
    assemble._warn_of_short_models(cfg, tokenizer)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "tasks.ir: texts are cut at the model's 128 tokens, not at 200"
    caplog.clear()
    cfg.tasks["ir"].max_document_tokens = 128
    assemble._warn_of_short_models(cfg, tokenizer)
    assert not [record for record in caplog.records if "tasks.ir" in record.getMessage()]
