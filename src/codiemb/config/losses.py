"""The `losses` group: one weighted sum of terms per task, checked as it is built, and against the data."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from codiemb.config.nodes import build_node
from codiemb.data.records import GRADED_TASKS, MIXED_TASKS, RAW_TASKS
from codiemb.data.source import Source
from codiemb.data.task_spec import TaskSpec
from codiemb.errors import UserError
from codiemb.losses import (
    PRO,
    AnglE,
    CoSENT,
    DistillKL,
    ListNet,
    MarginMSE,
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
_DISTILLATION_LOSSES = (DistillKL, MarginMSE)

log = logging.getLogger(__name__)


class _Term(NamedTuple):
    """A term that learns from a teacher, and what a record must have for it."""

    key: str
    counted_as: str  # how many records have it, in what is known of a source
    needs: str


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


def check_distillation(losses: Mapping[str, WeightedSum], tasks: Mapping[str, TaskSpec]) -> None:
    """Refuse terms for which a task takes too few documents of a record.

    Raises:
        UserError: naming the term and the limits.
    """
    for task, spec in tasks.items():
        for key, counted_as, needs in _distilled(task, losses[task]):
            alone = spec.num_positives == 1 and counted_as == "scored_lists"
            if spec.num_negatives == 0 and (alone or counted_as == "scored_pairs"):
                limits = f"tasks.{task}.num_negatives=0" + (", num_positives=1" if alone else "")
                raise UserError(f"{key} compares {needs} of one record, and there are none with {limits}")


def check_teachers(losses: Mapping[str, WeightedSum], sources: Sequence[Source]) -> None:
    """Terms that learn from a teacher find its scores; a source without them, beside others, is named.

    Raises:
        UserError: a term has them in no source of its task, or a source has no other term.
    """
    for task, loss in losses.items():
        own = [source for source in sources if source.task == task]
        num_terms = sum(weight > 0 for weight in loss.weights.values())
        for source in own:
            silent = [term for term in _distilled(task, loss) if not source.about[term.counted_as]]
            for key, counted_as, needs in silent:
                says = (
                    f"{key}: no record of source {source.name} has {needs} (positive_scores, negative_scores)"
                )
                if len(silent) == num_terms or not any(other.about[counted_as] for other in own):
                    raise UserError(f"{says}: it would be 0. Have a teacher score them, or drop the term")
                log.warning("%s: it is 0 there", says)


def _distilled(task: str, loss: WeightedSum) -> list[_Term]:
    terms = []
    for name, term in loss.terms.items():
        parts = list(term.modules()) if loss.weights[name] > 0 else []
        if any(isinstance(part, DistillKL) for part in parts):
            terms.append(_Term(f"losses.{task}.{name}", "scored_lists", "two scored documents"))
        if any(isinstance(part, MarginMSE) for part in parts):
            terms.append(
                _Term(f"losses.{task}.{name}", "scored_pairs", "a scored positive and a scored negative")
            )
    return terms


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
    """Gold scores are there in graded tasks only, a teacher's in IR, and tokens to predict in raw ones."""
    needs_scores = any(isinstance(part, _GRADED_LOSSES) for part in loss.modules())
    predicts_tokens = isinstance(loss, TokenPrediction)
    distils = any(isinstance(part, _DISTILLATION_LOSSES) for part in loss.modules())
    has_scores = task in GRADED_TASKS | MIXED_TASKS
    impossible = (needs_scores and not has_scores) or (distils and has_scores)
    if predicts_tokens != (task in RAW_TASKS) or impossible:
        raise UserError(f"{key}: {target} is no loss for task {task}; {LOSS_HINT}")
