"""Metrics against scipy, loops and closed forms."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.metrics import (
    alignment,
    average_ranks,
    effective_rank,
    ndcg_at_k,
    pearson,
    spearman,
    uniformity,
)

tied_pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=15).filter(
    lambda rows: len({x for x, _ in rows}) > 1 and len({y for _, y in rows}) > 1
)


@settings(max_examples=50, deadline=None)
@given(rows=tied_pairs)
def test_correlations_equal_scipy_with_ties(rows):
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    assert pearson(x, y).item() == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-9)
    assert spearman(x, y).item() == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_average_ranks_equal_scipy_on_the_negated_values(values):
    x = torch.tensor(values, dtype=torch.float64)
    assert average_ranks(x).tolist() == (scipy.stats.rankdata(-x.numpy()) - 1).tolist()


def test_a_constant_side_has_no_correlation():
    assert spearman(torch.ones(4), torch.arange(4.0)).isnan()


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_ndcg_equals_the_formula(k):
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(7, 20, generator=generator)
    relevance = torch.randint(0, 4, (7, 20), generator=generator).float() * (score > 0.5)
    for query, value in enumerate(ndcg_at_k(score, relevance, k)):
        gains = [
            g for _, g in sorted(zip(score[query].tolist(), relevance[query].tolist(), strict=True))[::-1]
        ]
        dcg = sum(g / math.log2(place + 2) for place, g in enumerate(gains[:k]))
        best = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(gains)[::-1][:k]))
        assert value.item() == pytest.approx(dcg / best, abs=1e-9)


def test_ndcg_is_1_for_the_ideal_order_and_0_without_relevant_documents():
    score = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    relevance = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    expected = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(ndcg_at_k(score, relevance), expected)


def test_alignment_and_uniformity_have_their_closed_forms_on_the_circle():
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert alignment(points, points).item() == 0
    assert alignment(points, -points).item() == pytest.approx(4)
    # squared distances 2, 2, 4
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity(points).item() == pytest.approx(expected, rel=1e-6)
    assert uniformity(points[:1].repeat(3, 1)).item() == pytest.approx(0, abs=1e-6)


def test_effective_rank_counts_the_dimensions_in_use():
    assert effective_rank(torch.eye(8)[:, :5]).item() == pytest.approx(5)
    assert effective_rank(torch.ones(6, 4)).item() == pytest.approx(1)
    assert 1 < effective_rank(torch.diag(torch.tensor([1.0, 0.1, 0.1]))).item() < 2
