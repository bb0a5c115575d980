"""The `logger` group: built without ever asking a fresh machine for a key."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from codiemb.config.nodes import build_node
from codiemb.config.schema import TrainConfig


def build_loggers(loggers: dict[str, Any]) -> list[Logger]:
    """All of the group that are not switched off.

    Raises:
        UserError: as `build_node`.
    """
    _use_offline_wandb()
    return [build_node(f"logger.{name}", node) for name, node in loggers.items() if node]


def log_config(trainer: pl.Trainer, cfg: TrainConfig) -> None:
    """The resolved config to every logger: searchable columns in W&B, hparams.yaml beside metrics.csv."""
    for logger in trainer.loggers:
        logger.log_hyperparams(asdict(cfg))


def _use_offline_wandb() -> None:
    """W&B never asks a fresh machine for a key: offline unless the user has one or says otherwise."""
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    logged_in = "WANDB_API_KEY" in os.environ or (netrc.is_file() and "wandb" in netrc.read_text("utf-8"))
    if not logged_in:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
