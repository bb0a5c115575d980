"""The plan: a pure function of (seed, step) that loses, repeats and mixes nothing, whatever the hardware."""

import math
import tracemalloc
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data import (
    Alternate,
    Plan,
    PlannedSource,
    Proportional,
    Schedule,
    SizePower,
    Weights,
)
from codiemb.errors import UserError
from tests.support.plans import schedules, seeds


@st.composite
def source_lists(draw, max_examples=80):
    """Up to four sources of two tasks; sizes need not be multiples of the batch."""
    sources = []
    for number in range(draw(st.integers(1, 4))):
        batch = draw(st.integers(2, 12))
        size = draw(st.integers(batch, max_examples))
        sources.append(PlannedSource(f"s{number}", draw(st.sampled_from(["ir", "sts"])), size, batch))
    return sources


class Setting(NamedTuple):
    sources: list[PlannedSource]
    schedule: Schedule
    seed: int


@st.composite
def plan_settings(draw):
    sources = draw(source_lists())
    schedule = draw(schedules([source.name for source in sources]))
    return Setting(sources, schedule, draw(seeds))


@settings(max_examples=25, deadline=None)
@given(plan_settings())
def test_no_example_repeats_or_is_lost_within_an_epoch_of_a_source_but_the_tail(setting):
    plan = Plan(*setting)
    seen: dict[tuple[int, int], list[int]] = {}
    for step in range(3 * plan.steps_per_epoch):
        planned = plan[step]
        assert len(planned.indices) == setting.sources[planned.source].global_batch_size
        seen.setdefault((planned.source, planned.epoch), []).extend(planned.indices.tolist())
    for (k, epoch), indices in seen.items():
        source = setting.sources[k]
        assert len(set(indices)) == len(indices)
        assert set(indices) <= set(range(source.num_examples))
        if (k, epoch + 1) in seen:
            assert len(indices) == source.num_batches * source.global_batch_size


@settings(max_examples=15, deadline=None)
@given(plan_settings(), st.integers(0, 10**9))
def test_a_source_begins_an_epoch_when_it_has_shown_all_of_the_last_whatever_the_schedule(setting, first):
    plan = Plan(*setting)
    steps = [plan[step] for step in range(first, first + 3 * plan.steps_per_epoch)]
    for k, source in enumerate(setting.sources):
        epochs = [step.epoch for step in steps if step.source == k]
        assert epochs == sorted(epochs)
        whole = [epochs.count(epoch) for epoch in sorted(set(epochs))[1:-1]]
        assert set(whole) <= {source.num_batches}


@pytest.mark.parametrize("schedule", [SizePower(1.0), SizePower(0.5), Weights({"a": 1, "b": 1, "c": 1})])
def test_an_epoch_of_equal_sources_shows_nearly_all_of_them_and_no_example_three_times(schedule):
    plan = Plan([PlannedSource(name, "ir", 3_200, 32) for name in "abc"], schedule, 1)
    steps = [plan[step] for step in range(plan.steps_per_epoch)]
    shown = Counter((step.source, index) for step in steps for index in step.indices.tolist())
    assert len(shown) / 9_600 > 0.95  # 0.66 where draws were numbered before the shuffle
    assert max(shown.values()) <= 2
    assert {step.epoch for step in steps} <= {0, 1}


@settings(max_examples=10, deadline=None)
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


def test_a_source_of_weight_zero_makes_no_epoch_longer():
    sources = [PlannedSource("drawn", "ir", 70, 10), PlannedSource("not", "ir", 7_000, 10)]
    assert Plan(sources, Weights({"drawn": 2, "not": 0}), 1).steps_per_epoch == 7


def test_a_rare_source_s_last_examples_are_found_among_millions_of_steps():
    sources = [PlannedSource("huge", "ir", 10**8, 64), PlannedSource("few", "ir", 1_000, 32)]
    plan = Plan(sources, Proportional(), 1)
    slots = plan._slots(np.arange(plan.steps_per_epoch), cycle=0)
    steps = (slots >= sources[0].num_batches).nonzero()[0][-3:].tolist()
    shown = [plan[step] for step in reversed(steps)]
    assert [(planned.source, planned.epoch) for planned in shown] == [(1, 0)] * 3
    found = plan.last_examples(1, 96)
    tail = 1_000 % 32  # in no batch
    assert len(set(found.tolist())) == 96
    assert (
        found[tail:].tolist() == np.concatenate([planned.indices for planned in shown])[: 96 - tail].tolist()
    )


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


def test_a_plan_over_a_billion_examples_needs_no_table():
    sources = [PlannedSource(f"s{k}", "ir", 100_000_000 - k, 64) for k in range(10)]
    rare = Weights({source.name: 1.0 if k else 1e-6 for k, source in enumerate(sources)})
    for schedule in (Proportional(), SizePower(0.5), rare, Alternate()):
        tracemalloc.start()
        plan = Plan(sources, schedule, 49)
        for step in (0, 1, 12_345_678, plan.steps_per_epoch - 1, 10 * plan.steps_per_epoch):
            indices = plan[step].indices.tolist()
            assert len(set(indices)) == 64
            assert 0 <= min(indices) <= max(indices) < 100_000_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50 * 2**20


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "the plan has no source; set data.files or data=builtin"),
        (
            [PlannedSource("s", "ir", 63, 64)],
            r"s has 63 examples, fewer than one batch: tasks\.ir\.global_batch_size=64; make the",
        ),
        ([PlannedSource("s", "ir", 63, 0)], r"tasks\.ir\.global_batch_size=0 must be at least 1"),
        ([PlannedSource("s", "ir", 63, -2)], r"tasks\.ir\.global_batch_size=-2 must be at least 1"),
        ([PlannedSource("s", "ir", 9, 3), PlannedSource("s", "sts", 9, 3)], "two sources have the same name"),
    ],
)
def test_a_plan_of_impossible_sources_is_an_error(sources, message):
    with pytest.raises(UserError, match=message):
        Plan(sources, Proportional(), 1)
