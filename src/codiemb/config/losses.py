"""The `losses` group: one weighted sum of terms per task, checked before anything else is built."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from codiemb.config.nodes import build_node, check_node
from codiemb.data.records import GRADED_TASKS, MIXED_TASKS, RAW_TASKS
from codiemb.errors import UserError
from codiemb.losses import (
    PRO,
    AnglE,
    CoSENT,
    ListNet,
    Matryoshka,
    MidLayerInfoNCE,
    Pearson,
    RankKL,
    TokenPrediction,
    WeightedSum,
)

LOSS_HINT = "see conf/losses"
_GRADED_LOSSES = (Pearson, RankKL, ListNet, PRO, CoSENT, AnglE, MidLayerInfoNCE)


def build_losses(losses: dict[str, Any]) -> dict[str, WeightedSum]:
    """One weighted sum of terms per task; `weight` (default 1) belongs to the sum, the rest to the term."""
    return {
        task: WeightedSum(
            {
                name: (float(node.get("weight", 1.0)), _build_term(f"losses.{task}.{name}", node))
                for name, node in terms.items()
            }
        )
        for task, terms in losses.items()
    }


def check_losses(task: str, terms: object, *, has_middle_layer: bool) -> None:
    """Refuse terms that are unknown, impossible, or none for the task.

    Terms are built for that: it is cheap, and a constructor knows best which values it takes.

    Raises:
        UserError: naming the key.
    """
    path = f"losses.{task}"
    if not isinstance(terms, Mapping) or not terms:
        raise UserError(f"{path} needs at least one term; {LOSS_HINT}")
    for term, node in terms.items():
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UserError(f"{path}.{term} needs a _target_; terms: {', '.join(terms)}; {LOSS_HINT}")
        _check_weight(f"{path}.{term}.weight", node.get("weight", 1.0))
        check_node(f"{path}.{term}", node, extra=frozenset({"weight"}))
        loss = _build_term(f"{path}.{term}", node)
        needs_scores = any(isinstance(part, _GRADED_LOSSES) for part in loss.modules())
        if isinstance(loss, TokenPrediction) != (task in RAW_TASKS) or (
            needs_scores and task not in GRADED_TASKS | MIXED_TASKS
        ):
            raise UserError(f"{path}.{term}: {node['_target_']} is no loss for task {task}; {LOSS_HINT}")
        needs_middle = any(isinstance(part, MidLayerInfoNCE) for part in loss.modules())  # it may be wrapped
        if needs_middle and node.get("weight", 1.0) and not has_middle_layer:
            raise UserError(f"{path}.{term} needs model.middle_layer=middle, or {path}.{term}.weight=0")
    if not any(node.get("weight", 1.0) for node in terms.values()):
        raise UserError(f"{path}: at least one term needs a weight above 0")


def check_widths(losses: dict[str, WeightedSum], width: int) -> None:
    """Refuse terms that embeddings of this width cannot have.

    Raises:
        UserError: naming the term.
    """
    terms = [(f"losses.{task}.{name}", term) for task in losses for name, term in losses[task].terms.items()]
    for key, part in [(key, part) for key, term in terms for part in term.modules()]:
        if not isinstance(part, AnglE | Matryoshka):
            continue
        try:
            part.check_width(width)
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error


def _build_term(path: str, node: Mapping[str, Any]) -> nn.Module:
    return build_node(path, {key: value for key, value in node.items() if key != "weight"})


def _check_weight(key: str, weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise UserError(f"{key}={weight!r} must be a finite number >= 0")
