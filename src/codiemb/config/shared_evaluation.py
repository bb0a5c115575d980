"""Where ranks meet that share an evaluation, and the embeddings that `task.cache_gib` keeps."""

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from codiemb.callbacks.before_training import BeforeTraining
from codiemb.config.accelerator import accelerator
from codiemb.config.rendezvous import check_port
from codiemb.config.schema import EvaluationTaskConfig, TrainConfig
from codiemb.config.task import evaluate_before
from codiemb.encoder import Encoder
from codiemb.errors import UserError
from codiemb.text_encoder import Stated, TextEncoder

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger("codiemb")
_TO_MEET = timedelta(hours=1)  # for ranks that load a large model from one disk
_GIB = 1 << 30


def before_training(
    cfg: TrainConfig, evaluator: "Evaluator | None", trainer: pl.Trainer, encoder: Encoder
) -> "Callable[[], Evaluation | None]":
    """Score the untrained encoder: at once in one process, else as soon as the ranks can talk.

    Returns:
        What gives the scores, on rank 0, once `fit` has begun; None where there are none.
    """
    if evaluator is None or not cfg.evaluate.before:
        return lambda: None

    def scores(encoder: TextEncoder) -> "Evaluation":
        folder = Path(cfg.run_dir) / "evaluation"
        return evaluate_before(evaluator, encoder, cfg.model.name, folder, seed=cfg.seed, report=log.info)

    if trainer.world_size == 1:
        found = scores(encoder)
        return lambda: found
    look = BeforeTraining(scores)
    trainer.callbacks.append(look)  # type: ignore[attr-defined]
    return lambda: look.result


def with_cache(encoder: TextEncoder, task: EvaluationTaskConfig) -> TextEncoder:
    """The encoder with its embeddings kept on disk, if `task.cache_gib` gives them room.

    Raises:
        UserError: it does not say what its embeddings depend on.
    """
    from codiemb.evaluation.embedding_cache import CachedEncoder

    if task.cache_gib <= 0:
        return encoder
    if not isinstance(encoder, Stated):
        raise UserError(
            f"task.cache_gib={task.cache_gib:g}: {type(encoder).__name__} does not say what its embeddings "
            "depend on, so they cannot be kept; task.cache_gib=0"
        )
    return CachedEncoder(encoder, Path(task.cache), int(task.cache_gib * _GIB))


def meet(num_devices: int) -> torch.device:
    """Start the ranks of an evaluation, or join those that torchrun or Slurm has started.

    Returns:
        The device of this rank.

    Raises:
        UserError: this machine has not so many devices.
    """
    kind = accelerator()
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_devices == num_ranks == 1:
        return torch.device(kind)
    if "LOCAL_WORLD_SIZE" in os.environ:  # of torchrun
        num_devices = int(os.environ["LOCAL_WORLD_SIZE"])
    elif num_ranks == 1:
        check_port()
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=num_devices,
            num_nodes=max(1, num_ranks // num_devices),
            strategy=DDPStrategy(timeout=_TO_MEET),
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"devices={num_devices}: {error}") from error
    fabric.launch()
    return fabric.device
