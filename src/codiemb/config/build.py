"""Turn a checked config into objects: losses, data module, optimizer, trainer. OmegaConf ends here."""

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor
from pytorch_lightning.strategies import DeepSpeedStrategy

from codiemb.callbacks.looks import DevMetrics
from codiemb.config.losses import build_losses, check_widths
from codiemb.config.nodes import build_node, check_fields, check_keys
from codiemb.config.schema import DataConfig, EvalConfig, RunConfig, SourceConfig, TrainConfig
from codiemb.config.task import dev_scores, dev_task
from codiemb.data.records import RAW_TASKS
from codiemb.data.source import SourceFile
from codiemb.encoder import Encoder, ModelSpec, load_encoder, load_head
from codiemb.errors import UserError
from codiemb.training.checkpoint_plugin import CheckpointFile
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.module import EmbeddingModule
from codiemb.training.schedule import learning_rate_schedule

log = logging.getLogger(__name__)


def typed(cfg: DictConfig) -> RunConfig:
    """The composed config as the plain dataclasses and containers that the rest of the code reads.

    Raises:
        UserError: a key that the schema does not know.
    """
    plain = cast(RunConfig, OmegaConf.to_object(cfg))
    check_fields("", plain)
    return plain


def typed_train(cfg: DictConfig) -> TrainConfig:
    """`typed`, for train.yaml."""
    plain = cast(TrainConfig, typed(cfg))
    plain.data.sources = {name: _source(name, node) for name, node in plain.data.sources.items()}
    return plain


def typed_eval(cfg: DictConfig) -> EvalConfig:
    """`typed`, for eval.yaml."""
    return cast(EvalConfig, typed(cfg))


def source_files(data: DataConfig) -> list[SourceFile]:
    """All training files with their names; `data.files` are named after their files.

    Raises:
        UserError: nothing to train on, or two files of one name.
    """
    files = [
        SourceFile(
            name, Path(source.path), _range(f"data.sources.{name}", source.score_range), source.in_batch
        )
        for name, source in data.sources.items()
    ]
    score_range = _range("data", data.score_range)
    files += [SourceFile(Path(path).stem, Path(path), score_range) for path in data.files]
    if not files:
        raise UserError("no training file: set data.files=[a.jsonl,b.jsonl] or data=builtin")
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two training files are named {name!r}; use +data.sources.NAME.path=FILE")
    return files


def build_data(cfg: TrainConfig) -> EmbeddingDataModule:
    """The data module, before any file is read."""
    return EmbeddingDataModule(
        source_files(cfg.data),
        cfg.tasks,
        build_node("sampler", cfg.sampler),
        seed=cfg.seed,
        cache=Path(cfg.data.cache),
        skip_bad=cfg.data.on_error == "skip",
        rejects=Path(cfg.run_dir) / "rejects.jsonl",
        num_workers=cfg.data.num_workers,
        prefetch=cfg.data.prefetch,
        epochs=cfg.epochs,
        max_steps=cfg.max_steps,
    )


def trained_model(cfg: TrainConfig) -> ModelSpec:
    """The model's settings for training: weights that an optimizer moves are fp32, whatever `dtype` says.

    But those of DeepSpeed, which has fp32 copies of its own. With LoRA `dtype` is that of the frozen weights.
    """
    if cfg.model.dtype == "float32" or cfg.model.lora.r > 0 or cfg.uses_deepspeed:
        return cfg.model
    log.info(
        "weights are loaded in float32 for training, not %s: small updates would be lost. Set "
        "trainer.precision=bf16-mixed to compute in bf16",
        cfg.model.dtype,
    )
    return replace(cfg.model, dtype="float32")


def build_encoder(cfg: TrainConfig) -> Encoder:
    """The encoder to train."""
    encoder = load_encoder(cfg.model)
    encoder.max_tokens_per_chunk = cfg.encoder.max_tokens_per_chunk
    if cfg.encoder.train_only is not None:
        _freeze_all_but(cfg.encoder.train_only, encoder)
    return encoder


def _freeze_all_but(part: str, encoder: Encoder) -> None:
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    kept = [name for name in trained if part in name]
    if not kept:
        raise UserError(
            f"encoder.train_only={part!r} occurs in no parameter's name; some names: "
            + ", ".join(list(trained)[:5])
        )
    for name in trained.keys() - set(kept):
        trained[name].requires_grad_(False)


def build_module(cfg: TrainConfig, encoder: Encoder) -> EmbeddingModule:
    """The Lightning module around an encoder."""
    _warn_of_other_architecture(cfg.model, encoder)
    losses = build_losses(cfg.losses)
    check_widths(losses, encoder.backbone.config.hidden_size)
    return EmbeddingModule(
        encoder,
        losses,
        optimizer=build_node("optimizer", cfg.optimizer, partial=True),
        schedule=functools.partial(learning_rate_schedule, **cfg.schedule),
        head=load_head(cfg.model, encoder) if RAW_TASKS & set(cfg.tasks) else None,
        seed=cfg.seed,
        head_learning_rate=cfg.head_learning_rate,
    )


def _warn_of_other_architecture(spec: ModelSpec, encoder: Encoder) -> None:
    """The default model's step size would ruin a pretrained model given by `model.path` alone."""
    expected, found = spec.architecture.get("model_type"), encoder.backbone.config.model_type
    if expected not in (None, found):
        log.warning(
            "%s is a %s model, model=%s is made for a %s: its learning rate %g and its prompt may not suit. "
            "model=pretrained has settings for any encoder",
            *(spec.path, found, spec.name, expected, spec.learning_rate),
        )


def build_trainer(cfg: TrainConfig) -> pl.Trainer:
    """A Lightning trainer; the loader's length, not `max_steps`, ends the run.

    Raises:
        UserError: the trainer or the strategy refuses a value, or this machine.
    """
    use_offline_wandb()
    arguments = {key: value for key, value in cfg.trainer.items() if key != "on_nan"}  # a callback's
    arguments["accelerator"] = _accelerator(arguments.get("accelerator", "auto"))
    loggers = [build_node(f"logger.{name}", node) for name, node in cfg.logger.items() if node]
    callbacks = [build_node(f"callbacks.{name}", node) for name, node in cfg.callbacks.items() if node]
    if not loggers:  # Lightning's monitor refuses to run for nobody
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    try:
        trainer = pl.Trainer(
            **arguments,
            strategy=build_strategy(cfg.strategy),
            logger=loggers,
            callbacks=build_dev_metrics(cfg) + callbacks,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            plugins=[CheckpointFile()],
            default_root_dir=cfg.run_dir,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer or strategy: {error}") from error
    if trainer.world_size > 1 and "_target_" not in cfg.strategy:
        raise UserError(
            f"{trainer.world_size} devices need to know how they share the work: strategy=ddp, fsdp, "
            "deepspeed_zero1, deepspeed_zero2 or deepspeed_zero3 (trainer.devices=1 for one)"
        )
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        _check_deepspeed(cfg, trainer)
    return trainer


def _accelerator(wanted: str) -> str:
    """CUDA where there is a card, else the CPU. Lightning would take an Apple GPU first."""
    if wanted == "mps":
        raise UserError("trainer.accelerator=mps: torch has no segment_reduce for it, which pools; use cpu")
    if wanted == "gpu":
        return "cuda"
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_strategy(strategy: dict[str, Any]) -> Any:  # noqa: ANN401  "auto", or what `_target_` builds
    """A Lightning strategy; its `timeout` is in seconds."""
    if "_target_" not in strategy:
        return "auto"
    arguments = {key: value for key, value in strategy.items() if key != "timeout"}
    given = {"timeout": timedelta(seconds=strategy["timeout"])} if "timeout" in strategy else {}
    return build_node("strategy", arguments, partial=True)(**given)


def _check_deepspeed(cfg: TrainConfig, trainer: pl.Trainer) -> None:
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


def build_dev_metrics(cfg: TrainConfig) -> list[DevMetrics]:
    """The evaluation during training, if asked for."""
    if cfg.evaluate.every_n_steps is None:
        return []
    task = dev_task(cfg.task, cfg.evaluate.dev_tasks)
    return [DevMetrics(functools.partial(dev_scores, task), cfg.evaluate.every_n_steps)]


def log_config(trainer: pl.Trainer, cfg: TrainConfig) -> None:
    """The resolved config to every logger: searchable columns in W&B, hparams.yaml beside metrics.csv."""
    for logger in trainer.loggers:
        logger.log_hyperparams(asdict(cfg))


def use_offline_wandb() -> None:
    """W&B never asks a fresh machine for a key: offline unless the user has one or says otherwise."""
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    logged_in = "WANDB_API_KEY" in os.environ or (netrc.is_file() and "wandb" in netrc.read_text("utf-8"))
    if not logged_in:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")


def _source(name: str, node: object) -> SourceConfig:
    key = f"data.sources.{name}"
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node} must be {{path: FILE}}; ~{key} takes a source out")
    check_keys(key, node, [field.name for field in fields(SourceConfig)])
    try:
        return cast(SourceConfig, OmegaConf.to_object(OmegaConf.merge(SourceConfig, dict(node))))
    except OmegaConfBaseException as error:
        raise UserError(f"{key}: {error}") from error


def _range(key: str, values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise UserError(f"{key}.score_range={values} must be [lowest, highest]")
    return values[0], values[1]
