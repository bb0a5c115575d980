"""The paired bootstrap: how much a difference of two scores moves with the queries that happen to be asked.

Queries, pairs or texts are drawn with replacement, the same ones for both models, and the metric is computed
again from the drawn ones (Efron and Tibshirani 1993, chapter 13; Koehn 2004 for paired systems). A draw is a
column of counts, so that ranks and precisions come from one sort: linear in the number of pairs a draw.

Shapes: N units of a group, R draws, G distinct values. Draws are the last axis: sorting moves whole rows.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codiemb.evaluation.per_query import ACCURACY, MEAN, PRECISION, SPEARMAN, Group, PerQuery

Floats = NDArray[np.float64]
_CELLS = 1_000_000  # counts in memory at once


class _Column(NamedTuple):
    """Values with their order, sorted once for all draws."""

    values_N: Floats
    order_N: NDArray[np.intp]
    starts_G: NDArray[np.intp]  # of equal values, in that order
    place_N: NDArray[np.intp]  # which of the distinct values each unit has


def score(parts: PerQuery) -> float:
    """The main score, from its parts."""
    return float(np.mean([_Scorer(parts.statistic, group)(_once(group))[0] for group in parts.groups]))


def differences(a: PerQuery, b: PerQuery, *, resamples: int, seed: int) -> Floats:
    """b's score minus a's, for each of `resamples` draws; both hold the same units (`same_units`)."""
    rng = np.random.default_rng(seed)
    total_R = np.zeros(resamples)
    for one, other in zip(a.groups, b.groups, strict=True):
        first, second = _Scorer(a.statistic, one), _Scorer(b.statistic, other)
        draws = _draws(_size(one), resamples, rng)
        total_R += np.concatenate([second(counts_NR) - first(counts_NR) for counts_NR in draws])
    return total_R / len(a.groups)


def same_units(a: PerQuery, b: PerQuery) -> bool:
    """Whether the same queries, pairs or texts were scored, by id or by order and gold values."""
    return (a.statistic, len(a.groups)) == (b.statistic, len(b.groups)) and all(
        (one.split, one.subset, one.ids, one.gold, _size(one))
        == (other.split, other.subset, other.ids, other.gold, _size(other))
        for one, other in zip(a.groups, b.groups, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for asking several tasks at once (Holm 1979): any false find is as rare as for one."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def p_value(differences_R: Floats) -> float:
    """Two-sided: twice the share of draws on the rarer side of zero, never below 2 / (R + 1)."""
    rarer = min(np.sum(differences_R <= 0), np.sum(differences_R >= 0))
    return min(1.0, 2 * float(rarer + 1) / (len(differences_R) + 1))


def _size(group: Group) -> int:
    return len(next(iter(group.values.values())))


def _once(group: Group) -> Floats:
    return np.ones((_size(group), 1))


def _draws(size: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each unit is drawn, in blocks of draws."""
    for start in range(0, resamples, block := max(1, _CELLS // size)):
        drawn = (rng.integers(size, size=size) for _ in range(min(block, resamples - start)))
        counts_RN = np.stack([np.bincount(units, minlength=size) for units in drawn])
        yield np.ascontiguousarray(counts_RN.T, dtype=np.float64)


class _Scorer:
    """The metric of a group for each column of counts; of several similarity functions the best, as max_*."""

    def __init__(self, statistic: str, group: Group) -> None:
        self.compute = {MEAN: _mean, SPEARMAN: _spearman, PRECISION: _precision, ACCURACY: _accuracy}[
            statistic
        ]
        self.gold = _column(group.gold if statistic != MEAN else [0.0])
        self.columns = _distinct([_column(values) for values in group.values.values()])

    def __call__(self, counts_NR: Floats) -> Floats:
        scores = [self.compute(counts_NR, column, self.gold) for column in self.columns]
        return np.asarray(np.max(scores, axis=0))


def _column(values: Sequence[float | int]) -> _Column:
    values_N = np.asarray(values, np.float64)
    order_N = np.argsort(values_N, kind="stable")
    starts_G = np.flatnonzero(np.r_[True, np.diff(values_N[order_N]) != 0])
    return _Column(values_N, order_N, starts_G, np.unique(values_N, return_inverse=True)[1])


def _distinct(columns: Sequence[_Column]) -> list[_Column]:
    """Those that order the units differently: of unit vectors, most functions give the same order."""
    return list({column.place_N.tobytes(): column for column in columns}.values())


def _mean(counts_NR: Floats, column: _Column, gold: _Column) -> Floats:
    return np.asarray(column.values_N @ counts_NR / counts_NR.sum(0))


def _spearman(counts_NR: Floats, column: _Column, gold: _Column) -> Floats:
    """Pearson's correlation of average ranks, each unit as often as it was drawn."""
    x_NR, y_NR = _ranks(counts_NR, column), _ranks(counts_NR, gold)
    total_R = counts_NR.sum(0)
    x_NR -= (counts_NR * x_NR).sum(0) / total_R
    y_NR -= (counts_NR * y_NR).sum(0) / total_R
    weighted_NR = counts_NR * x_NR
    spread_R = (weighted_NR * x_NR).sum(0) * (counts_NR * y_NR * y_NR).sum(0)
    return np.asarray((weighted_NR * y_NR).sum(0) / np.sqrt(np.where(spread_R == 0, np.inf, spread_R)))


def _ranks(counts_NR: Floats, column: _Column) -> Floats:
    """Average ranks among the drawn: those before, and half of the equal ones."""
    equal_GR = _by_place(counts_NR, column)
    return np.asarray((np.cumsum(equal_GR, 0) - equal_GR / 2 + 0.5)[column.place_N])


def _by_place(weights_NR: Floats, column: _Column) -> Floats:
    """Sums over units of equal value, from the lowest value to the highest."""
    return np.add.reduceat(weights_NR[column.order_N], column.starts_G, axis=0)


def _precision(counts_NR: Floats, column: _Column, gold: _Column) -> Floats:
    """Average precision: the mean over positives of the precision among units of at least their value."""
    right_GR, taken_GR = _from_the_top(counts_NR, column, gold)
    gained_GR = np.diff(right_GR, axis=0, prepend=0)
    positives_R = np.maximum(right_GR[-1], 1)
    return np.asarray((gained_GR * right_GR / np.maximum(taken_GR, 1)).sum(0) / positives_R)


def _accuracy(counts_NR: Floats, column: _Column, gold: _Column) -> Floats:
    """The best over thresholds; as mteb's, it leaves some units on either side."""
    right_GR, taken_GR = _from_the_top(counts_NR, column, gold)
    total_R, positives_R = taken_GR[-1], right_GR[-1]
    rejected_GR = (total_R - taken_GR) - (positives_R - right_GR)
    inside = (taken_GR > 0) & (taken_GR < total_R)
    return np.asarray(np.where(inside, (right_GR + rejected_GR) / total_R, 0).max(0))


def _from_the_top(counts_NR: Floats, column: _Column, gold: _Column) -> tuple[Floats, Floats]:
    """Positives, and units, with at least each distinct value, from the highest."""
    right_GR = _by_place(counts_NR * gold.values_N[:, None], column)[::-1]
    return np.cumsum(right_GR, 0), np.cumsum(_by_place(counts_NR, column)[::-1], 0)
