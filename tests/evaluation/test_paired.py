"""The bootstrap's metrics are those of the libraries on the texts drawn; what is noise it calls noise."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from codiemb.evaluation import paired
from codiemb.evaluation.per_query import ACCURACY, MEAN, PRECISION, SPEARMAN, Group, PerQuery

Oracle = Callable[[np.ndarray, np.ndarray], float]


def _best_accuracy(values: np.ndarray, gold: np.ndarray) -> float:
    """Every threshold that leaves some on either side, one after the other."""
    thresholds = np.unique(values)[1:]
    return max((float(np.mean((values >= each) == gold)) for each in thresholds), default=0.0)


ORACLES: dict[str, Oracle] = {
    MEAN: lambda values, gold: float(np.mean(values)),
    SPEARMAN: lambda values, gold: float(spearmanr(values, gold).statistic),
    PRECISION: lambda values, gold: float(average_precision_score(gold, values)),
    ACCURACY: _best_accuracy,
}


def _parts(statistic: str, values: np.ndarray, gold: np.ndarray, **more: np.ndarray) -> PerQuery:
    columns = {name: list(column) for name, column in {"score": values, **more}.items()}
    group = Group("test", "default", [], [] if statistic == MEAN else gold.tolist(), columns)
    return PerQuery("T", "m", statistic, "pair", 0.0, "abc", [group])


def _drawn(seed: int, size: int, resamples: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(size, size=size) for _ in range(resamples)]


@pytest.mark.parametrize("statistic", list(ORACLES))
def test_every_draw_is_the_librarys_metric_of_the_units_drawn(statistic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paired, "_CELLS", 200)  # several blocks
    rng, size = np.random.default_rng(7), 40
    gold = rng.integers(0, 2 if statistic in (PRECISION, ACCURACY) else 5, size).astype(float)
    a, b = np.round(gold / 4 + rng.normal(size=(2, size)), 1)  # rounded: ties
    found = paired.differences(_parts(statistic, a, gold), _parts(statistic, b, gold), resamples=30, seed=3)
    oracle = ORACLES[statistic]
    wanted = [oracle(b[drawn], gold[drawn]) - oracle(a[drawn], gold[drawn]) for drawn in _drawn(3, size, 30)]
    assert found == pytest.approx(wanted, abs=1e-12)


def test_the_best_similarity_is_chosen_in_every_draw():
    rng, size = np.random.default_rng(1), 30
    gold = rng.integers(0, 2, size).astype(float)
    one, other, third = gold + rng.normal(size=(3, size))
    flat = _parts(PRECISION, third, gold)
    found = paired.differences(flat, _parts(PRECISION, one, gold, other=other), resamples=20, seed=0)
    best = [
        max(average_precision_score(gold[i], each[i]) for each in (one, other))
        - average_precision_score(gold[i], third[i])
        for i in _drawn(0, size, 20)
    ]
    assert found == pytest.approx(best, abs=1e-12)


def test_a_difference_that_is_always_there_is_found_and_one_that_is_not_is_noise():
    rng = np.random.default_rng(0)
    a = rng.random(200)
    better, shuffled = _parts(MEAN, a + 0.05, a), _parts(MEAN, a + rng.normal(size=200), a)
    same = _parts(MEAN, a, a)
    draws = paired.differences(same, better, resamples=400, seed=0)
    assert draws == pytest.approx(np.full(400, 0.05))  # paired: what varies over queries is gone
    assert paired.p_value(draws) == pytest.approx(2 / 401)
    assert paired.p_value(paired.differences(same, shuffled, resamples=400, seed=0)) > 0.05
    assert paired.p_value(paired.differences(same, same, resamples=400, seed=0)) == 1


def test_five_percent_of_differences_without_cause_are_found():
    rng = np.random.default_rng(5)
    values = []
    for _ in range(200):
        a, b = (_parts(MEAN, scores, scores) for scores in rng.random((2, 30)))
        values.append(paired.p_value(paired.differences(a, b, resamples=100, seed=1)))
    assert 0.02 < np.mean(np.asarray(values) < 0.05) < 0.1


def test_holm_is_the_textbooks():
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert paired.holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([]) == []


def test_only_the_same_units_are_paired():
    a = _parts(SPEARMAN, np.arange(3.0), np.arange(3.0))
    assert paired.same_units(a, _parts(SPEARMAN, np.zeros(3), np.arange(3.0)))
    assert not paired.same_units(a, _parts(SPEARMAN, np.arange(3.0), np.ones(3)))
    assert not paired.same_units(a, _parts(SPEARMAN, np.arange(2.0), np.arange(2.0)))
