"""The `logger` group: no fresh machine is asked for a key, and a logger that cannot be had ends no run."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import Logger, WandbLogger

from codiemb.config.nodes import build_node, target_of
from codiemb.config.secrets import recorded
from codiemb.config.wandb_run import remember_id

log = logging.getLogger("codiemb")
_WANDB_PATIENCE = 20  # seconds; W&B itself waits 90 for a server out of reach, and answers within 3


def build_loggers(
    loggers: dict[str, Any], wandb_arguments: Mapping[str, Any] = MappingProxyType({})
) -> list[Logger]:
    """All of the group that are not switched off; one that cannot be had (no package) is a warning.

    Args:
        loggers: by name: `_target_` and its arguments.
        wandb_arguments: `wandb_run.identity`: what W&B's node leaves open.

    Raises:
        UserError: as `build_node`.
    """
    _use_offline_wandb()
    built = []
    for name, node in loggers.items():
        if not node:
            continue
        if target_of(node) is WandbLogger:
            node = {**wandb_arguments, **{key: value for key, value in node.items() if value is not None}}
        try:
            built.append(build_node(f"logger.{name}", node))
        except InstantiationException as error:  # not of a value in the node: that is a UserError
            _warn_without(f"logger.{name}", error.__cause__ or error)
    for logger in built:
        if isinstance(logger, WandbLogger):  # Lightning always gives this key, and wandb warns of it
            logger._wandb_init.pop("anonymous", None)
    return built


def open_loggers(trainer: pl.Trainer, cfg: DictConfig) -> None:
    """Start every logger with the config: searchable columns in W&B, hparams.yaml beside metrics.csv.

    W&B out of reach is taken offline; another that fails is left out. Call it on the main process.
    """
    hyperparameters = recorded(cfg)
    trainer.loggers = [logger for logger in trainer.loggers if _opens(logger, hyperparameters)]
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            remember_id(logger, Path(cfg.run_dir))
    if not trainer.loggers:  # Lightning's monitor refuses to run for nobody
        callbacks: list[pl.Callback] = cast(Any, trainer).callbacks
        callbacks[:] = [each for each in callbacks if not isinstance(each, LearningRateMonitor)]


@contextmanager
def closed_loggers() -> Iterator[None]:
    """Close what a job has opened, whether it ends well or not.

    Lightning leaves a W&B run open to the end of the process, and the next job of a sweep, in the same
    process, would write its rows into the run of this one.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)


def _opens(logger: Logger, hyperparameters: dict[str, Any]) -> bool:
    try:
        logger.log_hyperparams(hyperparameters)
    except Exception as error:  # a server's client may raise anything
        if isinstance(logger, WandbLogger) and os.environ.get("WANDB_MODE") != "offline":
            _take_offline(logger, error)
            return _opens(logger, hyperparameters)
        _warn_without(type(logger).__name__, error)
        return False
    return True


def _take_offline(logger: WandbLogger, error: Exception) -> None:
    import wandb  # half a second, and only where it is used

    log.warning(
        "W&B cannot be had (%s): it goes offline, and `wandb sync %s` uploads later",
        _first_line(error),
        Path(logger.save_dir or ".") / "wandb" / "offline-run-*",
    )
    wandb.teardown()  # it reads its environment once
    os.environ["WANDB_MODE"] = "offline"


def _warn_without(name: str, error: BaseException) -> None:
    log.warning("going on without %s, which cannot be had: %s", name, _first_line(error))


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _use_offline_wandb() -> None:
    """W&B never asks a fresh machine for a key: offline unless the user has one or says otherwise."""
    if not os.environ.get("WANDB_API_KEY") and not _in_netrc():  # an empty key is none
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_INIT_TIMEOUT", str(_WANDB_PATIENCE))


def _in_netrc() -> bool:
    """Whether `wandb login` was here; without a home it was not (`Path.expanduser` would raise)."""
    netrc = Path(os.path.expanduser(os.environ.get("NETRC") or "~/.netrc"))
    try:
        return "wandb" in netrc.read_text("utf-8", errors="replace")
    except OSError:
        return False
