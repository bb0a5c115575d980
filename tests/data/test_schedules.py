"""How steps are shared among sources: exactly, without blocks, and no source starves."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data import (
    Alternate,
    Plan,
    PlannedSource,
    SizePower,
    Weights,
)
from codiemb.data.turns import Turns
from codiemb.errors import UserError
from tests.support.plans import seeds


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Weights({"a": 2, "b": 1, "c": 1}), [500, 250, 250]),
        (Weights({"a": 1, "b": 1, "c": 1}), [334, 333, 333]),
        (Weights({"a": 0.5, "b": 0, "c": 0.25}), [667, 0, 333]),
        (Weights({"a": 2, "b": 3, "c": 2}), [286, 428, 286]),
        (Weights({"a": 5e307, "b": 1e308, "c": 5e307}), [250, 500, 250]),
        (SizePower(1.0), [90, 810, 100]),
        (SizePower(0.5), [198, 594, 208]),
        (SizePower(0.0), [334, 333, 333]),
    ],
)
def test_a_cycle_of_a_thousand_steps_holds_the_largest_remainder_shares(schedule, expected):
    sizes = {"a": 900, "b": 8_100, "c": 1_000}
    sources = [PlannedSource(name, "ir", size, 10) for name, size in sizes.items()]
    assert schedule.quotas(sources) == expected


def test_every_cycle_keeps_the_shares_exactly():
    sources = [PlannedSource(name, "ir", 900, 10) for name in "abc"]
    plan = Plan(sources, Weights({"a": 2, "b": 0, "c": 5}), 3)
    for first in (0, 1_000):
        counts = Counter(plan[first + i].source for i in range(1_000))
        assert counts == {0: 286, 2: 714}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=20).filter(any), seeds, st.integers(0, 10**6))
def test_turns_are_numbered_in_the_order_of_steps_and_keep_the_shares_at_every_step(quotas, seed, cycle):
    turns, length = Turns(np.array(quotas), seed), sum(quotas)
    block = max(128, 8 * len(quotas))
    counts = [cycle * quota for quota in quotas]
    for position in range(length):
        source, number = turns[cycle * length + position]
        assert number == counts[source]
        counts[source] += 1
        expected = np.array(quotas) * (cycle + (position + 1) / length)
        assert np.abs(counts - expected).max() <= 1 + block * max(quotas) / length
    assert counts == [(cycle + 1) * quota for quota in quotas]


def test_any_step_of_a_cycle_of_a_billion_is_known_without_the_steps_before():
    quotas = np.array([5, 10**9 - 17, 7, 5])
    turns = Turns(quotas, seed=3)
    steps = [4 * 10**8 + i for i in range(3_000)]
    numbers = [turns[step].number for step in steps if turns[step].source == 1]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert abs(numbers[0] - 4 * 10**8) < 2_000
    assert [Turns(quotas, seed=3)[step] for step in steps[::-99]] == [turns[step] for step in steps[::-99]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), seeds)
def test_shares_are_within_one_step_of_the_weights_and_no_source_starves(values, seed):
    weights = {f"s{i}": value for i, value in enumerate(values)}
    sources = [PlannedSource(name, "ir", 100, 10) for name in weights]
    quotas = Weights(weights).quotas(sources)
    cycle = sum(quotas)
    assert cycle >= 1_000
    for quota, weight in zip(quotas, values, strict=True):
        assert quota >= 1
        assert abs(quota - cycle * weight / sum(values)) <= 1


def test_a_source_of_a_small_share_still_gets_its_steps():
    small, large = PlannedSource("small", "sts", 64, 32), PlannedSource("large", "ir", 10_000_000, 64)
    quotas = SizePower(1.0).quotas([small, large])
    assert quotas == [1, 156_250]


def test_alternate_takes_sources_in_strict_turn():
    sources = [PlannedSource(name, "ir", size, 10) for name, size in (("a", 20), ("b", 5_000), ("c", 70))]
    plan = Plan(sources, Alternate(), 1)
    assert [plan[step].source for step in range(300)] == [0, 1, 2] * 100


def test_a_shuffled_cycle_is_not_in_blocks():
    sources = [PlannedSource(name, "ir", 1_000, 10) for name in "ab"]
    plan = Plan(sources, Weights({"a": 1, "b": 1}), 1)
    order = [plan[step].source for step in range(1_000)]
    changes = sum(x != y for x, y in pairwise(order))
    assert 420 < changes < 580


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf])
def test_alpha_outside_zero_to_one_is_an_error(alpha):
    with pytest.raises(UserError, match=r"sampler\.alpha=.* must lie in 0\.\.1"):
        SizePower(alpha)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, True])
def test_a_weight_must_be_a_finite_number_of_at_least_zero(weight):
    with pytest.raises(UserError, match=r"sampler\.weights\.b=.* must be a finite number >= 0"):
        Weights({"a": 1.0, "b": weight})


def test_weights_must_not_all_be_zero():
    with pytest.raises(UserError, match="gives no source a weight above 0"):
        Weights({"a": 0.0, "b": 0})


@pytest.mark.parametrize("weights", [{}, {"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}])
def test_weights_must_name_every_source_once(weights):
    sources = [PlannedSource(name, "ir", 100, 10) for name in "ab"]
    with pytest.raises(UserError, match=r"must name every source once; sources: a, b"):
        Plan(sources, Weights(weights), 1)
