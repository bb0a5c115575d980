"""Check a composed config before anything is built: every key is known, every value is possible."""

import difflib
import functools
import inspect
import math
from typing import NamedTuple, get_args

import pytorch_lightning as pl
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import SchedulerType

from codiemb.config.export_checks import check_export
from codiemb.config.fuse_checks import check_fuse, check_fuse_with_start
from codiemb.config.losses import LOSS_HINT, build_losses, check_distillation
from codiemb.config.nodes import build_node, check_keys, check_node
from codiemb.config.refresh_checks import check_refresh
from codiemb.config.schema import TrainConfig
from codiemb.config.strategy import check_strategy
from codiemb.config.typed import source_files
from codiemb.data.language import PredictFrom
from codiemb.data.plan import Schedule
from codiemb.data.records import KNOWN_TASKS, RAW_TASKS
from codiemb.data.source_file import SourceFile
from codiemb.data.task_spec import TaskSpec
from codiemb.encoder import ModelSpec, check_spec
from codiemb.encoder.check import check_trainable
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.modes import ENCODE_PRECISIONS
from codiemb.errors import UserError
from codiemb.losses import InfoNCE, WeightedSum
from codiemb.training.module import OptimizerFactory, ScheduleFactory
from codiemb.training.schedule import learning_rate_schedule

_LENGTH = "max_steps=NUMBER or epochs=NUMBER, which the schedule of the step size follows"
_VALIDATION = "evaluate.every_n_steps and evaluate.dev_tasks; Lightning's own validation does not run"
# Arguments of the trainer that the code passes itself, or that would end a run in the middle of its schedule
# or do nothing; and the keys that decide them.
_TRAINER_GIVEN = {
    "strategy": "the group strategy (strategy=ddp)",
    "logger": "the group logger",
    "callbacks": "the group callbacks",
    "enable_checkpointing": "callbacks.checkpoint (null switches it off)",
    "plugins": "codiemb.training.CheckpointFile",
    "default_root_dir": "run_dir",
    "use_distributed_sampler": "the plan, which shards the data itself",
    "reload_dataloaders_every_n_epochs": "the plan, of which a run is one pass",
    "fast_dev_run": "debug=default, ten steps",
    **dict.fromkeys(("max_steps", "min_steps", "min_epochs", "limit_train_batches"), _LENGTH),
    "overfit_batches": "max_steps=NUMBER, on a file of a few records",
    **dict.fromkeys(
        ("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps", "limit_val_batches"),
        _VALIDATION,
    ),
    **dict.fromkeys(("limit_test_batches", "limit_predict_batches"), "task.tasks"),
}


class Parts(NamedTuple):
    """The cheap parts of a training run, built while its config was checked."""

    files: list[SourceFile]
    sampler: Schedule
    losses: dict[str, WeightedSum]
    optimizer: OptimizerFactory
    schedule: ScheduleFactory


def preflight(cfg: TrainConfig) -> Parts:
    """Refuse a config that could only fail later; hand on what had to be built for that.

    Raises:
        UserError: naming the key, what is wrong and what was probably meant.
    """
    check_trainable(cfg.model)
    check_spec(cfg.model)
    check_export(cfg)
    if cfg.data.on_error not in ("raise", "skip"):
        raise UserError(f"data.on_error={cfg.data.on_error!r} must be raise or skip")
    _check_numbers(cfg)
    _check_tasks(cfg)
    _check_chunks(cfg)
    if (precision := cfg.encoder.encode_precision) not in ENCODE_PRECISIONS:
        raise UserError(f"encoder.encode_precision={precision!r} must be {' or '.join(ENCODE_PRECISIONS)}")
    parts = Parts(
        files=[] if cfg.fuse is not None else source_files(cfg.data),  # fusing reads no data
        sampler=build_node("sampler", cfg.sampler),
        losses=build_losses(cfg.losses, has_middle_layer=cfg.model.middle_layer is not None),
        optimizer=build_node("optimizer", cfg.optimizer, partial=True, given=frozenset({"params"})),
        schedule=_schedule(cfg),
    )
    _check_negatives(cfg, parts.losses)
    check_distillation(parts.losses, cfg.tasks)
    check_refresh(cfg, parts.losses)
    check_strategy(cfg)
    for group in ("logger", "callbacks"):  # built with the trainer: some of them leave files
        for name, node in getattr(cfg, group).items():
            if node is not None:
                check_node(f"{group}.{name}", node)
    _check_trainer(cfg)
    if cfg.fuse is not None:
        check_fuse(cfg.fuse, cfg.task)
    check_fuse_with_start(cfg)
    return parts


def _check_numbers(cfg: TrainConfig) -> None:
    """Counts and lengths, each with the least value that makes sense."""
    _at_least("seed", cfg.seed, 0)
    if cfg.seed >= 2**32:
        raise UserError(f"seed={cfg.seed} must be below 2**32")
    if not 0 < cfg.epochs < math.inf:
        raise UserError(f"epochs={cfg.epochs} must be a finite number above 0")
    _at_least("max_steps", cfg.max_steps, 1)
    _at_least("batches_per_step", cfg.batches_per_step, 1)
    rate = cfg.optimizer.get("lr", 1.0)
    if isinstance(rate, int | float) and not 0 <= rate < math.inf:
        raise UserError(f"optimizer.lr={rate} must be a finite number of at least 0")
    if cfg.head_learning_rate is not None:
        _check_head_rate(cfg.head_learning_rate, cfg)
    _at_least("evaluate.every_n_steps", cfg.evaluate.every_n_steps, 1)
    _at_least("data.num_converters", cfg.data.num_converters, 1)
    _at_least("data.num_workers", cfg.data.num_workers, 0)
    _at_least("data.prefetch", cfg.data.prefetch, 1)
    least = {
        "global_batch_size": 1,
        "max_query_tokens": 1,
        "max_document_tokens": 1,
        "num_positives": 1,
        "num_negatives": 0,
        "num_windows": 1,
    }
    for task, spec in cfg.tasks.items():
        for key, value in least.items():
            _at_least(f"tasks.{task}.{key}", getattr(spec, key), value)
        foreign = ("num_positives", "num_negatives") if task in RAW_TASKS else ("num_windows", "mask_share")
        for key in foreign:
            if getattr(spec, key) is not None:
                raise UserError(f"tasks.{task}.{key} says nothing about task {task}; set it to null")
        _check_masking(task, spec)


def _check_masking(task: str, spec: TaskSpec) -> None:
    if spec.mask_share is not None and not 0 < spec.mask_share <= 1:
        raise UserError(f"tasks.{task}.mask_share={spec.mask_share} must be a share above 0")
    if spec.predict_from not in get_args(PredictFrom):
        raise UserError(
            f"tasks.{task}.predict_from={spec.predict_from!r} must be previous, mask or embedding"
        )
    if spec.predict_from != "previous" and spec.mask_share is None:
        raise UserError(
            f"tasks.{task}.predict_from={spec.predict_from} says what predicts a masked token, and "
            f"tasks.{task}.mask_share=null masks none"
        )


def _check_head_rate(rate: float, cfg: TrainConfig) -> None:
    if not 0 < rate < math.inf:
        raise UserError(f"head_learning_rate={rate} must be a finite number above 0")
    if not RAW_TASKS & set(cfg.tasks):
        raise UserError(
            f"head_learning_rate={rate} is for a language-model head (stage=pretrain), and this run trains "
            "none: optimizer.lr is the encoder's"
        )


def _at_least(key: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f"{key}={value} must be at least {least}")


def _check_tasks(cfg: TrainConfig) -> None:
    for group in ("tasks", "losses"):
        for task in getattr(cfg, group):
            if task not in KNOWN_TASKS:
                raise UserError(
                    f"{group}.{task}: unknown task; known tasks: {', '.join(sorted(KNOWN_TASKS))}"
                )
    for task, spec in cfg.tasks.items():
        if task not in cfg.losses:
            raise UserError(f"tasks.{task} has no losses.{task}; add it, {LOSS_HINT}")
        if task in RAW_TASKS and spec.mask_share is None:
            _check_next_token(task, cfg.model)


def _check_next_token(task: str, model: ModelSpec) -> None:
    """A state that has seen the next token learns nothing by predicting it."""
    attention = with_folder_settings(model)[0].attention
    if attention != "causal":
        raise UserError(
            f"tasks.{task}.mask_share=null predicts every next token, which {attention} attention has seen "
            f"already: set tasks.{task}.mask_share=0.2, or model.attention=causal"
        )


def _check_negatives(cfg: TrainConfig, losses: dict[str, WeightedSum]) -> None:
    """InfoNCE out of batch tells a positive from the record's own negatives, so there must be some."""
    for task, spec in cfg.tasks.items():
        for name, term in losses[task].terms.items():
            alone = any(isinstance(part, InfoNCE) and not part.in_batch for part in term.modules())
            if alone and spec.num_negatives == 0:
                raise UserError(
                    f"losses.{task}.{name}.in_batch=false takes a record's own negatives only, and "
                    f"tasks.{task}.num_negatives=0 takes none: there would be nothing to tell a positive from"
                )


def _check_chunks(cfg: TrainConfig) -> None:
    """One text longer than the token budget would stop the run at its batch: refuse it now."""
    budget = cfg.encoder.max_tokens_per_chunk
    if budget is None:
        return
    _at_least("encoder.max_tokens_per_chunk", budget, 1)
    for task, spec in cfg.tasks.items():
        for key in ("max_query_tokens", "max_document_tokens")[task in RAW_TASKS :]:
            if getattr(spec, key) > budget:
                raise UserError(
                    f"tasks.{task}.{key}={getattr(spec, key)} exceeds encoder.max_tokens_per_chunk={budget}: "
                    "a single text may fill the budget; raise it or shorten the texts"
                )


def _schedule(cfg: TrainConfig) -> ScheduleFactory:
    """The schedule as a function of an optimizer and a number of steps, tried on a small one."""
    given = ("optimizer", "num_steps")
    known = [name for name in inspect.signature(learning_rate_schedule).parameters if name not in given]
    check_keys("schedule", cfg.schedule, known)
    name, names = cfg.schedule.get("name", "linear"), [entry.value for entry in SchedulerType]
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1) or names
        raise UserError(f"schedule.name={name!r} is unknown; did you mean {' or '.join(close)}?")
    ratio = cfg.schedule.get("warmup_ratio", 0.0)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise UserError(f"schedule.warmup_ratio={ratio!r} must lie in 0..1")
    try:
        schedule = learning_rate_schedule(SGD([torch.zeros(1)], lr=1.0), 10, **cfg.schedule)
    except (TypeError, ValueError) as error:
        raise UserError(f"schedule.name={name!r} needs settings that the group has not: {error}") from error
    if name == SchedulerType.CONSTANT and ratio > 0:  # transformers' one of that name does not warm up
        raise UserError(
            f"schedule.name=constant has no warm-up, and schedule.warmup_ratio={ratio} asks for one: "
            "schedule.name=constant_with_warmup, or schedule.warmup_ratio=0"
        )
    if isinstance(schedule, ReduceLROnPlateau):
        raise UserError(f"schedule.name={name!r} follows a score, and training has none at every step")
    return functools.partial(learning_rate_schedule, **cfg.schedule)


def _check_trainer(cfg: TrainConfig) -> None:
    check_keys("trainer", cfg.trainer, [*inspect.signature(pl.Trainer).parameters, "on_nan"])
    for key in cfg.trainer:
        if key in _TRAINER_GIVEN:
            raise UserError(f"trainer.{key} is decided by {_TRAINER_GIVEN[key]}")
    clip = cfg.trainer.get("gradient_clip_val")
    if isinstance(clip, int | float) and clip < 0:  # which Lightning takes for no clipping
        raise UserError(f"trainer.gradient_clip_val={clip} must be at least 0; 0 and null clip nothing")
    if cfg.trainer.get("max_epochs", 1) != 1:
        raise UserError(
            f"trainer.max_epochs={cfg.trainer['max_epochs']} would replay the same batches; "
            "the length of a run is epochs=NUMBER or max_steps=NUMBER"
        )
