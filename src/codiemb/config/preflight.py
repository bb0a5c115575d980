"""Check a composed config before anything is built: every `_target_` exists and knows every key."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from hydra.utils import get_object

from codiemb.config.schema import TrainConfig
from codiemb.data.records import KNOWN_TASKS
from codiemb.encoder import check_spec
from codiemb.errors import UserError

_HYDRA_KEYS = frozenset({"_target_", "_partial_", "_args_", "_convert_", "_recursive_"})
# Arguments that exist only at run time and are passed by the code, per group.
_GIVEN = {"optimizer": {"params"}, "schedule": {"optimizer", "num_steps"}}


def preflight(cfg: TrainConfig) -> None:
    """Refuse a config that could only fail later.

    Raises:
        UserError: naming the key, what is wrong and what was probably meant.
    """
    check_spec(cfg.model)
    if cfg.data.on_error not in ("raise", "skip"):
        raise UserError(f"data.on_error={cfg.data.on_error!r} must be raise or skip")
    _check_tasks(cfg)
    for task, terms in cfg.losses.items():
        for term, node in terms.items():
            if not isinstance(node, Mapping) or "_target_" not in node:
                raise UserError(f"losses.{task}.{term} needs a _target_; see conf/losses/codiemb.yaml")
            _check_weight(f"losses.{task}.{term}.weight", node.get("weight", 1.0))
            _check_node(f"losses.{task}.{term}", node, given={"weight"})
    for group in ("sampler", "optimizer", "schedule", "strategy"):
        node = getattr(cfg, group)
        if "_target_" in node:
            _check_node(group, node, given=_GIVEN.get(group, set()))
    for group in ("logger", "callbacks"):
        for name, node in getattr(cfg, group).items():
            if node is not None:
                _check_node(f"{group}.{name}", node, given=set())
    _check_keys("trainer", cfg.trainer, inspect.signature(pl.Trainer).parameters)


def _check_tasks(cfg: TrainConfig) -> None:
    for group in ("tasks", "losses"):
        for task in getattr(cfg, group):
            if task not in KNOWN_TASKS:
                raise UserError(
                    f"{group}.{task}: unknown task; known tasks: {', '.join(sorted(KNOWN_TASKS))}"
                )
    for task in cfg.tasks:
        if task not in cfg.losses:
            raise UserError(f"tasks.{task} has no losses.{task}; add it, see conf/losses/codiemb.yaml")


def _check_weight(key: str, weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise UserError(f"{key}={weight!r} must be a finite number >= 0")


def _check_node(path: str, node: Mapping[str, Any], given: set[str]) -> None:
    """Bind a `_target_`'s keys to its signature; nested targets likewise."""
    target = node.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{path} needs a _target_: the dotted name of a class or function")
    try:
        constructor = get_object(target)
    except Exception as error:
        raise UserError(f"{path}._target_={target}: cannot be imported ({error})") from error
    keys = {key: value for key, value in node.items() if key not in _HYDRA_KEYS | given}
    parameters = inspect.signature(constructor).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _check_keys(path, keys, parameters)
    for key, value in keys.items():
        if isinstance(value, Mapping) and "_target_" in value:
            _check_node(f"{path}.{key}", value, given=set())


def _check_keys(path: str, keys: Iterable[str], known: Iterable[str]) -> None:
    known = [name for name in known if name != "self"]
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            raise UserError(f"{path}.{key}: no such key; {meant}")
