"""Refuse a `refresh` that mines nothing, or what no step would see."""

import math
from collections.abc import Mapping

from codiemb.config.schema import TrainConfig
from codiemb.data.source import Source
from codiemb.errors import UserError
from codiemb.losses import DistillKL, MarginMSE, WeightedSum
from codiemb.mining.spec import RULES, RefreshSpec
from codiemb.training import EmbeddingDataModule


def check_refresh(cfg: TrainConfig, losses: Mapping[str, WeightedSum]) -> None:
    """What the config alone says.

    Raises:
        UserError: naming the key.
    """
    spec = cfg.refresh
    if spec.every_n_steps is None:
        if changed := _changed(spec):
            raise UserError(f"refresh.{changed} says how negatives are mined anew: set refresh.every_n_steps")
        return
    _check_numbers(spec)
    if "ir" not in cfg.tasks:
        raise UserError(
            f"refresh.every_n_steps={spec.every_n_steps} mines negatives of IR records, and this run has no "
            "tasks.ir"
        )
    taken = cfg.tasks["ir"].num_negatives
    if taken is not None and not 0 < taken <= spec.num_negatives:
        raise UserError(
            f"refresh.num_negatives={spec.num_negatives} keeps so many of a record, and "
            f"tasks.ir.num_negatives={taken} draws from them: draw at least one, and keep at least as many"
        )
    if cfg.max_steps is not None:
        _check_length(spec, cfg.max_steps)
    for name, term in losses["ir"].terms.items():
        if losses["ir"].weights[name] > 0 and any(
            isinstance(m, DistillKL | MarginMSE) for m in term.modules()
        ):
            raise UserError(
                f"losses.ir.{name} learns from a teacher's scores, and negatives that are mined while "
                "training have none: set refresh.every_n_steps=null, or take another loss"
            )


def check_refreshed(spec: RefreshSpec, data: EmbeddingDataModule) -> None:
    """What the training files say.

    Raises:
        UserError: the run ends before the first search, or no source is searched.
    """
    if spec.every_n_steps is None:
        return
    _check_length(spec, data.num_steps)
    if not data.refreshed_sources():
        raise UserError(
            f"refresh.every_n_steps={spec.every_n_steps}: no source of IR records can be mined for: "
            f"{', '.join(map(_why_not, data.sources))}"
        )


def _why_not(source: Source) -> str:
    if source.task != "ir":
        return f"{source.name} is {source.task}"
    return f"{source.name} has in_batch: false (another record's documents may be right as well)"


def _check_length(spec: RefreshSpec, num_steps: int) -> None:
    assert spec.every_n_steps is not None
    if spec.every_n_steps >= num_steps:
        raise UserError(
            f"refresh.every_n_steps={spec.every_n_steps}: the run has {num_steps:,} steps and would end "
            "before its first search; take fewer, or null for none"
        )


def _check_numbers(spec: RefreshSpec) -> None:
    for key, least in (("every_n_steps", 1), ("num_negatives", 1)):
        if getattr(spec, key) < least:
            raise UserError(f"refresh.{key}={getattr(spec, key)} must be at least {least}")
    if spec.rule not in RULES:
        raise UserError(f"refresh.rule={spec.rule!r} must be {' or '.join(RULES)}")
    try:
        spec.limits().check()
    except UserError as error:
        raise UserError(f"refresh: {error}") from None
    if not 1 <= spec.factor < math.inf:
        raise UserError(f"refresh.factor={spec.factor} must be a finite number of at least 1")
    if spec.rule != "conan" and spec.factor != RefreshSpec().factor:
        raise UserError(
            f"refresh.factor={spec.factor} says nothing with refresh.rule={spec.rule}: it is conan's"
        )


def _changed(spec: RefreshSpec) -> str:
    """The first key that is not as it comes."""
    default = vars(RefreshSpec())
    return next((f"{key}={value}" for key, value in vars(spec).items() if value != default[key]), "")
