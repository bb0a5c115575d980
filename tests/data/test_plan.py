"""The plan: a pure function of (seed, step) that loses, repeats and mixes nothing, whatever the hardware."""

import math
import tracemalloc
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data import (
    Alternate,
    Collator,
    Plan,
    PlannedBatches,
    PlannedSource,
    Proportional,
    Schedule,
    SizePower,
    Weights,
)
from codiemb.errors import UserError

seeds = st.integers(0, 2**32 - 1)


@st.composite
def source_lists(draw, max_examples=80):
    """Up to four sources of two tasks; sizes need not be multiples of the batch."""
    sources = []
    for number in range(draw(st.integers(1, 4))):
        batch = draw(st.integers(2, 12))
        size = draw(st.integers(batch, max_examples))
        sources.append(PlannedSource(f"s{number}", draw(st.sampled_from(["ir", "sts"])), size, batch))
    return sources


@st.composite
def schedules(draw, names):
    weights = {name: draw(st.integers(1, 9)) for name in names}
    return draw(
        st.sampled_from(
            [Proportional(), SizePower(draw(st.floats(0, 1, width=32))), Weights(weights), Alternate()]
        )
    )


class Setting(NamedTuple):
    sources: list[PlannedSource]
    schedule: Schedule
    seed: int


@st.composite
def plan_settings(draw):
    sources = draw(source_lists())
    schedule = draw(schedules([source.name for source in sources]))
    return Setting(sources, schedule, draw(seeds))


def without_collator():
    """Shards need no texts."""
    return object.__new__(Collator)


def batches_of(plan, *, num_steps, **options):
    return PlannedBatches([], plan, without_collator(), num_steps=num_steps, **options)


# What an epoch is


@settings(max_examples=25, deadline=None)
@given(plan_settings())
def test_no_example_repeats_or_is_lost_within_an_epoch_of_a_source_but_the_tail(setting):
    plan = Plan(*setting)
    seen: dict[tuple[int, int], list[int]] = {}
    for step in range(3 * plan.steps_per_epoch):
        planned = plan[step]
        assert len(planned.indices) == setting.sources[planned.source].global_batch_size
        seen.setdefault((planned.source, planned.epoch), []).extend(planned.indices.tolist())
    for (k, _), indices in seen.items():
        source = setting.sources[k]
        assert len(set(indices)) == len(indices)
        assert set(indices) <= set(range(source.num_examples))
    for (k, epoch), indices in seen.items():
        later_epoch_begun = (k, epoch + 2) in seen  # neighbours may interleave within a cycle
        if later_epoch_begun and isinstance(setting.schedule, Proportional | Alternate):
            source = setting.sources[k]
            assert len(indices) == source.num_examples - source.num_examples % source.global_batch_size


@settings(max_examples=25, deadline=None)
@given(plan_settings(), st.integers(1, 40))
def test_the_last_examples_of_an_epoch_are_those_that_training_meets_last_or_not_at_all(setting, count):
    plan = Plan(*setting)
    for k, source in enumerate(setting.sources):
        found = plan.last_examples(k, count).tolist()
        assert len(found) == len(set(found)) == min(count, source.num_examples)
        met, step = [], 0
        while len(met) < source.num_batches * source.global_batch_size:
            planned, step = plan[step], step + 1
            if (planned.source, planned.epoch) == (k, 0):
                met += planned.indices.tolist()
        num_tail = source.num_examples - len(met)
        num_batches = max(0, math.ceil((count - num_tail) / source.global_batch_size))
        earlier = met[: max(0, len(met) - num_batches * source.global_batch_size)]
        assert not set(found) & set(earlier)


@settings(max_examples=25, deadline=None)
@given(source_lists(), seeds)
def test_proportional_shows_every_full_batch_once_a_cycle(sources, seed):
    plan = Plan(sources, Proportional(), seed)
    for cycle in range(2):
        first = cycle * plan.steps_per_epoch
        steps = [plan[step] for step in range(first, first + plan.steps_per_epoch)]
        assert {step.epoch for step in steps} == {cycle}
        counts = Counter(step.source for step in steps)
        assert [counts[k] for k in range(len(sources))] == [source.num_batches for source in sources]
        for k, source in enumerate(sources):
            shown = np.concatenate([step.indices for step in steps if step.source == k])
            assert len(set(shown.tolist())) == source.num_batches * source.global_batch_size


def test_the_tail_differs_from_epoch_to_epoch():
    plan = Plan([PlannedSource("s", "ir", 100, 30)], Proportional(), 1)
    shown = [np.concatenate([plan[3 * epoch + i].indices for i in range(3)]) for epoch in range(12)]
    left_out = {frozenset(range(100)) - set(epoch.tolist()) for epoch in shown}
    assert len(left_out) == 12
    assert len(frozenset.union(*left_out)) > 50


def test_epochs_and_seeds_give_different_orders():
    sources = [PlannedSource("a", "ir", 640, 64), PlannedSource("b", "sts", 320, 32)]

    def order(seed, epoch):
        plan = Plan(sources, Proportional(), seed)
        return tuple((plan[s].source, *plan[s].indices.tolist()) for s in range(20 * epoch, 20 * epoch + 20))

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


# How steps are shared


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


# Ranks, micro-steps, interruptions


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_shards_of_ranks_and_micro_steps_make_up_the_global_batch_in_order(data):
    num_ranks, accumulation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    sources = []
    for number in range(data.draw(st.integers(1, 3))):
        batch = num_ranks * accumulation * data.draw(st.integers(1, 4))
        sources.append(PlannedSource(f"s{number}", "ir", data.draw(st.integers(batch, 300)), batch))
    plan = Plan(sources, data.draw(schedules([source.name for source in sources])), data.draw(seeds))
    ranks = [
        batches_of(plan, num_steps=20, rank=rank, num_ranks=num_ranks, accumulation=accumulation)
        for rank in range(num_ranks)
    ]
    assert {len(batches) for batches in ranks} == {20 * accumulation}
    for step in data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=5)):
        planned = plan[step]
        parts = [
            batches.shard(step * accumulation + part) for part in range(accumulation) for batches in ranks
        ]
        assert {(source, epoch) for source, epoch, _ in parts} == {(planned.source, planned.epoch)}
        assert len({len(indices) for _, _, indices in parts}) == 1
        assert np.concatenate([indices for _, _, indices in parts]).tolist() == planned.indices.tolist()


@settings(max_examples=40, deadline=None)
@given(plan_settings(), st.lists(st.integers(0, 10**9), min_size=2, max_size=12))
def test_a_step_does_not_depend_on_which_steps_were_asked_before(setting, steps):
    shared = Plan(*setting)
    for step in steps:
        asked, fresh = shared[step], Plan(*setting)[step]
        assert (asked.source, asked.epoch) == (fresh.source, fresh.epoch)
        assert asked.indices.tolist() == fresh.indices.tolist()


def test_steps_never_end_but_do_not_run_backwards():
    plan = Plan([PlannedSource("s", "ir", 70, 64)], Proportional(), 1)
    assert plan[10**12].epoch == 10**12
    with pytest.raises(IndexError):
        plan[-1]


def test_planned_batches_end_with_the_run():
    batches = batches_of(
        Plan([PlannedSource("s", "ir", 70, 8)], Proportional(), 1), num_steps=3, accumulation=2
    )
    assert len(batches) == 6
    assert len(batches.shard(5)[2]) == 4
    for outside in (6, -1):
        with pytest.raises(IndexError):
            batches.shard(outside)


def test_a_plan_over_a_billion_examples_needs_no_table():
    sources = [PlannedSource(f"s{k}", "ir", 100_000_000 - k, 64) for k in range(10)]
    for schedule in (Proportional(), SizePower(0.5), Alternate()):
        tracemalloc.start()
        plan = Plan(sources, schedule, 49)
        for step in (0, 1, 12_345_678, plan.steps_per_epoch - 1, 10 * plan.steps_per_epoch):
            indices = plan[step].indices.tolist()
            assert len(set(indices)) == 64
            assert 0 <= min(indices) <= max(indices) < 100_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50 * 2**20


# Mistakes


@pytest.mark.parametrize(
    ("batch", "num_ranks", "accumulation", "nearest"),
    [(30, 4, 1, "28, 32"), (64, 3, 2, "60, 66"), (3, 4, 1, "4"), (2, 2, 2, "4")],
)
def test_a_batch_that_does_not_divide_is_an_error_with_all_numbers(batch, num_ranks, accumulation, nearest):
    plan = Plan([PlannedSource("docs", "sts", 1_000, batch)], Proportional(), 1)
    with pytest.raises(UserError) as error:
        batches_of(plan, num_steps=1, num_ranks=num_ranks, accumulation=accumulation)
    assert str(error.value) == (
        f"tasks.sts.global_batch_size={batch} does not divide by {num_ranks} ranks x "
        f"trainer.accumulate_grad_batches={accumulation} (source docs); the nearest sizes that do: {nearest}"
    )


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "the plan has no source; set data.files or data=builtin"),
        (
            [PlannedSource("s", "ir", 63, 64)],
            r"s has 63 examples, fewer than one batch: tasks\.ir\.global_batch_size=64",
        ),
        ([PlannedSource("s", "ir", 63, 0)], r"tasks\.ir\.global_batch_size=0 must be at least 1"),
        ([PlannedSource("s", "ir", 63, -2)], r"tasks\.ir\.global_batch_size=-2 must be at least 1"),
        ([PlannedSource("s", "ir", 9, 3), PlannedSource("s", "sts", 9, 3)], "two sources have the same name"),
    ],
)
def test_a_plan_of_impossible_sources_is_an_error(sources, message):
    with pytest.raises(UserError, match=message):
        Plan(sources, Proportional(), 1)


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
