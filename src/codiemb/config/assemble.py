"""Trainer, module, data and encoder of a checked config: built in one place, each whole once it is there."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint, LearningRateMonitor

from codiemb.callbacks import DevMetrics, RefreshNegatives, StopTogether
from codiemb.config.accelerator import accelerator
from codiemb.config.loggers import build_loggers
from codiemb.config.losses import check_teachers, check_widths
from codiemb.config.nodes import build_node, target_of
from codiemb.config.preflight import Parts, preflight
from codiemb.config.ranks import is_main_process
from codiemb.config.refresh_checks import check_refreshed
from codiemb.config.schema import TrainConfig
from codiemb.config.strategy import build_strategy, check_devices, starts_ranks
from codiemb.config.task import Evaluations
from codiemb.config.wandb_run import identity
from codiemb.data.records import RAW_TASKS
from codiemb.encoder import Encoder, ModelSpec, TextTokenizer, load_encoder, load_head, load_tokenizer
from codiemb.errors import UserError
from codiemb.mining.spec import RefreshSpec
from codiemb.training import CheckpointFile, EmbeddingDataModule, EmbeddingModule
from codiemb.training.strategies import Kind, kind_of

log = logging.getLogger(__name__)


class Assembled(NamedTuple):
    """All that a training run is made of."""

    trainer: pl.Trainer
    module: EmbeddingModule
    data: EmbeddingDataModule
    encoder: Encoder
    model: ModelSpec  # as it was loaded for training


def assemble(
    cfg: TrainConfig, parts: Parts | None = None, evaluations: Evaluations | None = None
) -> Assembled:
    """Build a training run, in the order of what is cheap: a mistake should end it before a 2B load.

    Args:
        cfg: of run_train.py.
        parts: what `preflight(cfg)` has built; it is called here if it has not been.
        evaluations: of the run; its dev tasks are evaluated while it trains.

    Raises:
        UserError: a setting, a training file or the model is not what it should be.
    """
    # every key is known and every value possible before anything below is built
    parts = parts or preflight(cfg)
    model = training_model(cfg)
    # small, and the data needs it; also the first to see a folder that is no model
    tokenizer = load_tokenizer(model)
    _warn_of_short_models(cfg, tokenizer)
    data = EmbeddingDataModule(
        parts.files,
        cfg.tasks,
        parts.sampler,
        tokenizer,
        seed=cfg.seed,
        cache=Path(cfg.data.cache),
        skip_bad=cfg.data.on_error == "skip",
        rejects=Path(cfg.run_dir) / "rejects.jsonl",
        num_converters=cfg.data.num_converters,
        num_workers=cfg.data.num_workers,
        prefetch=cfg.data.prefetch,
        epochs=cfg.epochs,
        max_steps=cfg.max_steps,
        batches_per_step=cfg.batches_per_step,
        refresh=cfg.refresh,
    )
    # before the data: it says how many ranks share a batch, and whether this machine has them
    trainer = build_trainer(cfg, evaluations)
    if is_main_process():
        # minutes for a large file, but a bad line must not cost the load of a model
        _read_data(data, trainer, parts, cfg.refresh)
    # the costly part, once nothing else can fail
    encoder = load_encoder(model, tokenizer, max_tokens_per_chunk=cfg.encoder.max_tokens_per_chunk)
    if cfg.encoder.train_only is not None:
        _freeze_all_but(cfg.encoder.train_only, encoder)
    encoder.encode_precision = cfg.encoder.encode_precision
    encoder.to(trainer.strategy.root_device)
    return Assembled(trainer, build_module(cfg, parts, encoder, model), data, encoder, model)


def training_model(cfg: TrainConfig) -> ModelSpec:
    """The model's settings for training: weights that an optimizer moves are fp32, whatever `dtype` says.

    But those of DeepSpeed, which has fp32 copies of its own. With LoRA `dtype` is that of the frozen weights.
    """
    has_copies = kind_of(target_of(cfg.strategy)) is Kind.DEEPSPEED
    if cfg.model.dtype == "float32" or cfg.model.lora.r > 0 or has_copies:
        return cfg.model
    log.info(
        "weights are loaded in float32 for training, not %s: small updates would be lost. Set "
        "trainer.precision=bf16-mixed to compute in bf16",
        cfg.model.dtype,
    )
    return replace(cfg.model, dtype="float32")


def build_module(cfg: TrainConfig, parts: Parts, encoder: Encoder, model: ModelSpec) -> EmbeddingModule:
    """The Lightning module around an encoder.

    Raises:
        UserError: a loss does not fit the encoder.
    """
    _warn_of_other_architecture(model, encoder)
    check_widths(parts.losses, encoder.backbone.config.hidden_size)
    return EmbeddingModule(
        encoder,
        parts.losses,
        optimizer=parts.optimizer,
        schedule=parts.schedule,
        head=load_head(model, encoder) if RAW_TASKS & set(cfg.tasks) else None,
        seed=cfg.seed,
        head_learning_rate=cfg.head_learning_rate,
    )


def build_trainer(cfg: TrainConfig, evaluations: Evaluations | None = None) -> pl.Trainer:
    """A Lightning trainer; the loader's length, not `max_steps`, ends the run.

    Raises:
        UserError: the trainer or the strategy refuses a value, or this machine.
    """
    arguments = {key: value for key, value in cfg.trainer.items() if key != "on_nan"}  # a callback's
    # a step takes batches of its own beside the parts that one batch is cut into
    arguments["accumulate_grad_batches"] = arguments.get("accumulate_grad_batches", 1) * cfg.batches_per_step
    arguments["accelerator"] = accelerator(arguments.get("accelerator", "auto"))
    loggers = build_loggers(cfg.logger, identity(cfg))
    callbacks = [build_node(f"callbacks.{name}", node) for name, node in cfg.callbacks.items() if node]
    if not loggers:  # Lightning's monitor refuses to run for nobody
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    if evaluations is not None and evaluations.dev is not None and cfg.evaluate.every_n_steps is not None:
        # first: `speed`, whose clock must not count it, comes after it
        callbacks.insert(0, DevMetrics(evaluations.dev.main_scores, cfg.evaluate.every_n_steps))
    if cfg.refresh.every_n_steps is not None:
        callbacks.insert(0, RefreshNegatives(cfg.refresh))  # before those that look at its negatives' effect
    try:
        trainer = pl.Trainer(
            **arguments,
            strategy=build_strategy(cfg.strategy),
            logger=loggers,
            callbacks=callbacks,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            plugins=[CheckpointFile()],
            default_root_dir=cfg.run_dir,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer or strategy: {error}") from error
    check_devices(cfg, trainer)
    for callback in callbacks:
        if isinstance(callback, StopTogether) and starts_ranks(trainer):
            callback.expect(trainer.strategy.launcher)
    return trainer


def _read_data(data: EmbeddingDataModule, trainer: pl.Trainer, parts: Parts, refresh: RefreshSpec) -> None:
    """Convert and try every source, on one process; the others wait in `fit`."""
    data.prepare_data()
    data.setup()
    num_ranks = trainer.num_devices * trainer.num_nodes
    log.info("%s", data.describe(num_ranks, trainer.accumulate_grad_batches))
    check_teachers(parts.losses, data.sources)
    check_refreshed(refresh, data)
    data.try_every_source()


def _warn_of_short_models(cfg: TrainConfig, tokenizer: TextTokenizer) -> None:
    """Texts are cut where the model has no more positions, whatever the task's limit says."""
    limit = tokenizer.max_positions
    for task, spec in cfg.tasks.items():
        lengths = (spec.max_query_tokens, spec.max_document_tokens)[task in RAW_TASKS :]
        longest = max(lengths)
        if limit is not None and longest > limit:
            log.warning(
                "tasks.%s: texts are cut at the model's %d tokens, not at %d", *(task, limit, longest)
            )


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


def _warn_of_other_architecture(spec: ModelSpec, encoder: Encoder) -> None:
    """The default model's step size would ruin a pretrained model given by `model.path` alone."""
    expected, found = spec.architecture.get("model_type"), encoder.backbone.config.model_type
    if expected not in (None, found):
        log.warning(
            "%s is a %s model, model=%s is made for a %s: its learning rate %g and its prompt may not suit. "
            "model=pretrained has settings for any encoder",
            *(spec.path, found, spec.name, expected, spec.learning_rate),
        )
