"""Ranks, micro-steps and the end of a run: shards make up the global batch, in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data import (
    Collator,
    Plan,
    PlannedBatches,
    PlannedSource,
    Proportional,
)
from codiemb.errors import UserError
from tests.support.plans import schedules, seeds


def without_collator():
    """Shards need no texts."""
    return object.__new__(Collator)


def batches_of(plan, *, num_batches, **options):
    return PlannedBatches([], plan, without_collator(), num_batches=num_batches, **options)


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
        batches_of(plan, num_batches=20, rank=rank, num_ranks=num_ranks, accumulation=accumulation)
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


def test_planned_batches_end_with_the_run():
    batches = batches_of(
        Plan([PlannedSource("s", "ir", 70, 8)], Proportional(), 1), num_batches=3, accumulation=2
    )
    assert len(batches) == 6
    assert len(batches.shard(5)[2]) == 4
    for outside in (6, -1):
        with pytest.raises(IndexError):
            batches.shard(outside)


@pytest.mark.parametrize(
    ("batch", "num_ranks", "accumulation", "nearest"),
    [(30, 4, 1, "28, 32"), (64, 3, 2, "60, 66"), (3, 4, 1, "4"), (2, 2, 2, "4")],
)
def test_a_batch_that_does_not_divide_is_an_error_with_all_numbers(batch, num_ranks, accumulation, nearest):
    plan = Plan([PlannedSource("docs", "sts", 1_000, batch)], Proportional(), 1)
    with pytest.raises(UserError) as error:
        batches_of(plan, num_batches=1, num_ranks=num_ranks, accumulation=accumulation)
    assert str(error.value) == (
        f"tasks.sts.global_batch_size={batch} does not divide by {num_ranks} ranks x "
        f"trainer.accumulate_grad_batches={accumulation} (source docs); the nearest sizes that do: {nearest}"
    )
