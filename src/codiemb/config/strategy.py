"""The `strategy` group: which kind it is, what it cannot do, and Lightning's object of it."""

from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import CUDAAccelerator

from codiemb.config.nodes import build_node, check_keys, check_node, target_of
from codiemb.config.rendezvous import check_port
from codiemb.config.schema import TrainConfig
from codiemb.errors import UserError
from codiemb.training.strategies import Kind, kind_of


def check_strategy(cfg: TrainConfig) -> None:
    """Refuse a strategy that could not train this config exactly.

    Raises:
        UserError: naming the key and the way out.
    """
    if "_target_" in cfg.strategy:
        check_node("strategy", cfg.strategy)
    else:
        check_keys("strategy", cfg.strategy, ["name"])
        if cfg.strategy.get("name", "auto") != "auto":  # Lightning's own DeepSpeed would change the maths
            raise UserError(
                f"strategy.name={cfg.strategy['name']!r} can only be auto; others are files of conf/strategy "
                "(strategy=ddp)"
            )
    kind = kind_of(target_of(cfg.strategy))
    if "lm" in cfg.tasks and len(cfg.tasks) > 1:
        _check_unused_head(cfg, kind)
    _check_precision(cfg, kind)


def _check_unused_head(cfg: TrainConfig, kind: Kind) -> None:
    """Steps of other tasks leave the language-model head without a gradient."""
    if kind is Kind.DEEPSPEED:
        raise UserError(
            f"DeepSpeed would also move the language-model head in steps of other tasks "
            f"({', '.join(cfg.tasks)}): train task lm by itself, or with strategy=ddp or fsdp"
        )
    if kind is Kind.DDP and not cfg.strategy.get("find_unused_parameters"):
        raise UserError(
            f"steps of {', '.join(cfg.tasks)} do not all use the language-model head: DDP needs "
            "+strategy.find_unused_parameters=true for that"
        )


def _check_precision(cfg: TrainConfig, kind: Kind) -> None:
    """Half-precision weights need an optimizer with fp32 copies of them, and only DeepSpeed's has these.

    AdamW moves a weight by about the learning rate; bf16 rounds to 1/256 of the weight itself. At 4e-5 no
    weight above 1/64 ever moves, nearly half of a common initialisation, while the loss looks normal.
    """
    precision = str(cfg.trainer.get("precision", "32-true"))
    halves = precision in ("bf16-true", "16-true") or precision.startswith("transformer-engine")
    if halves and kind is not Kind.DEEPSPEED:
        raise UserError(
            f"trainer.precision={precision} would round most weight updates away; bf16-mixed keeps fp32 "
            "weights (as strategy=deepspeed_zero1, _zero2 and _zero3 do with bf16-true)"
        )


def build_strategy(strategy: dict[str, Any]) -> Any:  # noqa: ANN401  "auto", or what `_target_` builds
    """A Lightning strategy; its `timeout` is in seconds."""
    if "_target_" not in strategy:
        return "auto"
    arguments = {key: value for key, value in strategy.items() if key != "timeout"}
    given = {"timeout": timedelta(seconds=strategy["timeout"])} if "timeout" in strategy else {}
    return build_node("strategy", arguments, partial=True)(**given)


def starts_ranks(trainer: pl.Trainer) -> bool:
    """Whether Lightning will start the other ranks as children of this one: not under torchrun or Slurm."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.world_size > 1 and not getattr(environment, "creates_processes_externally", True)


def check_devices(cfg: TrainConfig, trainer: pl.Trainer) -> None:
    """Refuse a strategy on devices that it cannot use.

    Raises:
        UserError: several devices without a strategy; a port that is taken; DeepSpeed without CUDA, or on
            weights it would refuse.
    """
    if trainer.world_size > 1 and "_target_" not in cfg.strategy:
        raise UserError(
            f"{trainer.world_size} devices need to know how they share the work: strategy=ddp, fsdp, "
            "deepspeed_zero1, deepspeed_zero2 or deepspeed_zero3 (trainer.devices=1 for one)"
        )
    if starts_ranks(trainer):
        check_port()
    if kind_of(target_of(cfg.strategy)) is not Kind.DEEPSPEED:
        return
    if not isinstance(trainer.accelerator, CUDAAccelerator):
        raise UserError(
            "strategy=deepspeed_zero* needs CUDA GPUs, and this run would use "
            f"{type(trainer.accelerator).__name__}; strategy=ddp and strategy=fsdp run on CPU, too"
        )
    precision = cfg.trainer.get("precision", "32-true")
    if cfg.model.dtype == "bfloat16" and not str(precision).startswith("bf16"):
        raise UserError(
            f"model.dtype=bfloat16 with DeepSpeed needs trainer.precision=bf16-true, not {precision}: it "
            "refuses weights of another type"
        )
