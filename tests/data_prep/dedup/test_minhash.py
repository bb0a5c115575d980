"""Signatures are a function of the set of shingles and of rensa, and find what LSH should find."""

import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rensa import RMinHash

from data_prep.dedup.minhash import BANDS, ROWS, band_keys
from data_prep.shingles import Ragged

numbers = st.integers(0, 2**64 - 1)


def ragged(sets) -> Ragged:
    return Ragged(np.array(list(chain(*sets)), np.uint64), np.cumsum([0, *map(len, sets)]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(numbers, max_size=40), min_size=1, max_size=4), st.randoms())
def test_a_set_has_one_signature_in_any_order_with_repetitions_and_in_any_block(sets, random):
    together = band_keys(ragged(sets))
    for keys, own in zip(together.tolist(), sets, strict=True):
        again = [*own, *own[:3]]
        random.shuffle(again)
        assert band_keys(ragged([again])).tolist() == [keys]


def test_a_large_block_gives_what_small_ones_give():
    """Beyond some size rensa shares the work among threads."""
    values = np.random.default_rng(0).integers(0, 2**64 - 1, 3_000 * 40, dtype=np.uint64)
    together = band_keys(Ragged(values, np.arange(0, 3_000 * 40 + 1, 40)))
    for row in (0, 1_499, 2_999):
        assert band_keys(ragged([values[row * 40 : row * 40 + 40].tolist()])).tolist() == [
            together[row].tolist()
        ]


def test_rensa_is_the_algorithm_that_signatures_were_made_with():
    """0.5 is algorithm 2, and no signature of 0.4 fits it: a new one needs another version of the step."""
    assert RMinHash.ALGORITHM_VERSION == 2
    assert band_keys(ragged([range(1, 8), [5]]))[:, :3].tolist() == GOLDEN


def test_another_process_gives_the_same_keys():
    code = (
        "import numpy as np; from data_prep.dedup.minhash import band_keys; from data_prep.shingles import "
        "Ragged; print(band_keys(Ragged(np.arange(9, dtype=np.uint64), np.array([0, 4, 9]))).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(band_keys(ragged([range(4), range(4, 9)])).tolist())


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_pairs_share_a_band_as_often_as_the_curve_says(similarity):
    """1 - (1 - s^8)^14, in float64. rensa's slots are not independent: it finds up to 0.03 more."""
    rng, pairs, size = np.random.default_rng(int(100 * similarity)), 2_000, 90
    common = round(2 * size * similarity / (1 + similarity))  # of two sets of this size
    true = common / (2 * size - common)
    values = rng.integers(0, 2**64 - 1, (pairs, 2, size), dtype=np.uint64)
    values[:, 1, :common] = values[:, 0, :common]
    keys = band_keys(Ragged(values.ravel(), np.arange(0, 2 * pairs * size + 1, size)))
    shared = (keys[::2] == keys[1::2]).any(axis=1).mean()
    expected = 1 - (1 - true**ROWS) ** BANDS
    deviation = 4 * np.sqrt(expected * (1 - expected) / pairs)
    assert expected - deviation - 1e-3 <= shared <= expected + deviation + 0.03


GOLDEN = [
    [15391322294365773446, 9110181853543836489, 7466028955572908197],
    [6387838990046372896, 4796516044643011251, 6075857296350161949],
]
