"""The permutation behind the plan: a bijection for every size and key, uniform, with random access."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.data.permutation import Permutation, mix, random_bits

keys = st.integers(min_value=0, max_value=2**64 - 1)


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 3_000), key=keys)
def test_permutation_is_a_bijection(n, key):
    items = Permutation(n, key)(np.arange(n))
    assert sorted(items.tolist()) == list(range(n))


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 2**40), key=keys, data=st.data())
def test_large_permutations_stay_in_range_and_never_collide(n, key, data):
    drawn = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50, unique=True))
    items = Permutation(n, key)(np.array(drawn)).tolist()
    assert len(set(items)) == len(drawn)
    assert all(0 <= item < n for item in items)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 2**33), key=keys, data=st.data())
def test_random_access_equals_batch_access(n, key, data):
    drawn = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    permutation = Permutation(n, key)
    batch = permutation(np.array(drawn)).tolist()
    assert batch == [permutation(np.array([position]))[0] for position in drawn]


def test_different_keys_give_different_permutations():
    orders = {tuple(Permutation(50, key)(np.arange(50)).tolist()) for key in range(500)}
    assert len(orders) == 500


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_order_of_few_items_is_equally_likely(n):
    draws = 4_000
    seen = Counter(tuple(Permutation(n, mix(key, 9))(np.arange(n)).tolist()) for key in range(draws))
    expected = draws / len(list(permutations(range(n))))
    orders = permutations(range(n))
    chi_square = sum((seen[order] - expected) ** 2 / expected for order in orders)
    assert chi_square < _bound(draws / expected - 1)


@pytest.mark.parametrize("n", [8, 64, 65])
def test_every_item_is_equally_likely_at_every_position_and_after_every_other(n):
    draws = 800
    at = np.zeros((n, n))
    steps = np.zeros(n)
    for key in range(draws):
        items = Permutation(n, mix(key, 9))(np.arange(n))
        at[np.arange(n), items] += 1
        steps += np.bincount(np.diff(items) % n, minlength=n)
    positions = ((at - draws / n) ** 2 / (draws / n)).sum()
    neighbours = ((steps[1:] - draws) ** 2 / draws).sum()
    assert positions < _bound((n - 1) ** 2)
    assert neighbours < _bound(n - 2)


def test_keys_depend_on_every_part_and_on_their_order():
    assert len({mix(1, 2, 3), mix(1, 3, 2), mix(1, 2), mix(1, 2, 3, 0), mix(0, 2, 3), mix(-1, 2, 3)}) == 6
    assert all(0 <= mix(*parts) < 2**64 for parts in [(), (-5,), (2**70, 3)])


def test_no_items_cannot_be_permuted():
    with pytest.raises(ValueError, match="cannot permute 0 items"):
        Permutation(0, 1)


def _bound(degrees_of_freedom: float) -> float:
    """Five standard deviations above the mean of a chi-square variable."""
    return degrees_of_freedom + 5 * (2 * degrees_of_freedom) ** 0.5


def test_random_bits_are_those_of_splitmix64():
    # of the reference implementation (prng.di.unimi.it/splitmix64.c) with the state 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert random_bits(4, 1234567).tolist() == expected
