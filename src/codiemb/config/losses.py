"""The `losses` group: one weighted sum of terms per task, checked as it is built."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from codiemb.config.nodes import build_node
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
from codiemb.losses.base import is_weight

LOSS_HINT = "see conf/losses"
_GRADED_LOSSES = (Pearson, RankKL, ListNet, PRO, CoSENT, AnglE, MidLayerInfoNCE)


def build_losses(losses: Mapping[str, Any], *, has_middle_layer: bool) -> dict[str, WeightedSum]:
    """One weighted sum of terms per task; `weight` (default 1) belongs to the sum, the rest to the term.

    Raises:
        UserError: a term is unknown, impossible, or none for its task; names the key.
    """
    return {
        task: _weighted_sum(task, terms, has_middle_layer=has_middle_layer) for task, terms in losses.items()
    }


def check_widths(losses: Mapping[str, WeightedSum], width: int) -> None:
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


def _weighted_sum(task: str, terms: object, *, has_middle_layer: bool) -> WeightedSum:
    path = f"losses.{task}"
    if not isinstance(terms, Mapping) or not terms:
        raise UserError(f"{path} needs at least one term; {LOSS_HINT}")
    built: dict[str, tuple[float | int, nn.Module]] = {}
    for term, node in terms.items():
        key = f"{path}.{term}"
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UserError(f"{key} needs a _target_; terms: {', '.join(terms)}; {LOSS_HINT}")
        weight = node.get("weight", 1.0)
        if not is_weight(weight):
            raise UserError(f"{key}.weight={weight!r} must be a finite number >= 0")
        loss = build_node(key, {name: value for name, value in node.items() if name != "weight"})
        _check_task(key, task, node["_target_"], loss)
        needs_middle = any(isinstance(part, MidLayerInfoNCE) for part in loss.modules())  # it may be wrapped
        if needs_middle and weight and not has_middle_layer:
            raise UserError(f"{key} needs model.middle_layer=middle, or {key}.weight=0")
        built[term] = (weight, loss)
    try:
        return WeightedSum(built)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_task(key: str, task: str, target: str, loss: nn.Module) -> None:
    """Scores are there in graded tasks only, and tokens to predict in raw ones."""
    needs_scores = any(isinstance(part, _GRADED_LOSSES) for part in loss.modules())
    predicts_tokens = isinstance(loss, TokenPrediction)
    has_scores = task in GRADED_TASKS | MIXED_TASKS
    if predicts_tokens != (task in RAW_TASKS) or (needs_scores and not has_scores):
        raise UserError(f"{key}: {target} is no loss for task {task}; {LOSS_HINT}")
