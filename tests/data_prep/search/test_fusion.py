"""Reciprocal rank fusion: the sum of the paper, of ragged lists, with ties by document."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.errors import UserError
from data_prep.search import Candidates
from data_prep.search.fusion import reciprocal_rank_fusion

LIST = st.lists(st.integers(0, 12), unique=True, max_size=9)


def candidates(lists, first_query=0):
    rows = [(np.array(ids, np.int64), -np.arange(len(ids), dtype=np.float32)) for ids in lists]
    return Candidates.of(rows, first_query)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(LIST, LIST), max_size=4), st.integers(1, 20))
def test_sums_and_order_are_those_of_exact_fractions_rounded_once(pairs, k):
    dense, lexical = ([pair[side] for pair in pairs] for side in (0, 1))
    found = reciprocal_rank_fusion([candidates(dense), candidates(lexical)], k)
    for pair, (ids, scores) in zip(pairs, found.rows(), strict=True):
        exact = {
            i: sum(Fraction(1, 60 + one.index(i) + 1) for one in pair if i in one)
            for i in {*pair[0], *pair[1]}
        }
        expected = sorted(exact, key=lambda i: (-np.float32(exact[i]), i))[:k]
        assert ids.tolist() == expected
        assert scores.tolist() == [np.float32(exact[i]) for i in expected]


def test_a_query_that_neither_search_answers_has_no_candidates():
    found = reciprocal_rank_fusion([candidates([[], [4]]), candidates([[], []])], 5)
    assert found.count_Q.tolist() == [0, 1]


def test_searches_of_different_queries_are_refused():
    with pytest.raises(UserError, match="1 queries from 0 on, 1 queries from 3 on"):
        reciprocal_rank_fusion([candidates([[1]]), candidates([[1]], 3)], 5)
