"""Which candidates may be hard negatives: against the rules written out for one candidate at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codiemb.errors import UserError
from codiemb.mining.choose import choose, pair_key
from codiemb.mining.limits import KEPT, REASONS, Limits

scores = st.integers(-64, 64).map(lambda number: number / 64)
maybe = st.none() | scores


def first_problem(limits: Limits, rank: int, score: float, positive: float) -> str:
    """The rules in words, for one candidate."""
    if not limits.min_rank <= rank <= limits.max_rank:
        return "rank"
    if limits.margin is not None and score > positive - limits.margin:
        return "margin"
    if limits.percent is not None:
        shared = positive * limits.percent if positive >= 0 else positive * (2 - limits.percent)
        if score > shared and not math.isclose(score, shared, abs_tol=1e-12):
            return "percent"
    if limits.lowest is not None and score < limits.lowest:
        return "lowest"
    if limits.highest is not None and score > limits.highest:
        return "highest"
    return ""


@given(
    st.lists(st.tuples(st.integers(0, 12), scores, scores), max_size=20),
    st.integers(1, 5),
    st.integers(0, 7),
    maybe,
    st.none() | st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    maybe,
)
def test_a_candidate_is_kept_if_no_rule_speaks_against_it(rows, low, more, margin, percent, lowest):
    limits = Limits(low, low + more, margin, percent, lowest)
    ranks, values, positives = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.zeros(0)] * 3
    )
    found = limits.verdicts(ranks, values, positives)
    assert [REASONS[code] for code in found] == [first_problem(limits, *row) for row in rows]


def test_a_percent_margin_is_below_a_negative_positive():
    """Peers multiply: 0.95 x -0.5 = -0.475 lies above -0.5, and a nearer document counts as a negative."""
    limits = Limits(1, 10, percent=0.95)
    verdicts = limits.verdicts(np.array([1, 2, 3]), np.array([-0.48, -0.52, -0.53]), np.full(3, -0.5))
    assert [REASONS[code] for code in verdicts] == ["percent", "percent", ""]


def test_the_window_counts_raw_ranks_whatever_a_margin_takes_out():
    """Peers count the window after the margin, so that it moves to worse candidates."""
    limits = Limits(2, 3, margin=0.1)
    verdicts = limits.verdicts(np.arange(1, 6), np.array([0.9, 0.85, 0.5, 0.4, 0.3]), np.full(5, 0.9))
    assert [REASONS[code] for code in verdicts] == ["rank", "margin", "", "rank", "rank"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(0, 3), "min_rank=0"),
        (Limits(4, 3), "max_rank=3"),
        (Limits(percent=95), "percent=95"),
        (Limits(percent=math.nan), "percent=nan"),
        (Limits(margin=math.inf), "margin=inf"),
        (Limits(lowest=0.5, highest=0.1), "lowest=0.5"),
    ],
)
def test_limits_that_nothing_can_satisfy_are_refused(limits, words):
    with pytest.raises(UserError, match=words):
        limits.check()


groups = st.lists(st.lists(st.booleans(), max_size=9), min_size=1, max_size=6)


@given(groups, st.integers(1, 4), st.sampled_from(["top", "random", "spread"]), st.integers(0, 99))
def test_each_query_keeps_at_most_so_many_and_never_more_than_it_has(kept, count, choice, seed):
    query = np.repeat(np.arange(len(kept)), [len(group) for group in kept])
    verdict = np.array([KEPT if each else 4 for group in kept for each in group], dtype=np.int8)
    document = np.arange(len(verdict))
    chosen = choose(verdict, query, pair_key(query, document), count, choice, seed)
    for number, group in enumerate(kept):
        rows = chosen[query == number]
        assert (rows == KEPT).sum() == min(count, sum(group))
        assert (rows[~np.array(group, dtype=bool)] == 4).all()  # a verdict stays what it was
        if choice == "top":
            assert np.flatnonzero(rows == KEPT).tolist() == np.flatnonzero(group)[:count].tolist()


def test_random_choice_does_not_depend_on_the_block_a_query_is_in():
    verdict, document = np.zeros(40, dtype=np.int8), np.tile(np.arange(20), 2)
    query = np.repeat([3, 8], 20)
    together = choose(verdict, query, pair_key(query, document), 5, "random", 1)
    alone = choose(verdict[20:], query[20:], pair_key(query[20:], document[20:]), 5, "random", 1)
    assert (together[20:] == alone).all()
    assert not (together[:20] == together[20:]).all()
    assert not (choose(verdict, query, pair_key(query, document), 5, "random", 2) == together).all()


def test_spread_takes_the_ends_and_equal_distances():
    verdict, query = np.zeros(9, dtype=np.int8), np.zeros(9, dtype=np.int64)
    chosen = choose(verdict, query, pair_key(query, np.arange(9)), 3, "spread", 0)
    assert np.flatnonzero(chosen == KEPT).tolist() == [0, 4, 8]
