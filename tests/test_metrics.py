"""Metrics against scipy, loops and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.metrics import (
    alignment,
    average_ranks,
    cosine,
    effective_rank,
    embedding_statistics,
    first_of_each,
    ndcg_at_k,
    pearson,
    spearman,
    uniformity,
)
from tests.support.batches import graded_batch, make_batch

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


def test_embedding_statistics_equal_numpy_in_float64():
    batch = make_batch([(2, 1), (1, 2), (1, 0)], document_hash=[5, 6, 7, 5, 8, 9, 10], dtype=torch.float32)
    query, document = (x.double().numpy() for x in (batch.query_BD, batch.document_ND))
    pairs = [(0, 0), (0, 1), (1, 3), (2, 6)]
    expected_alignment = np.mean([((query[q] - document[d]) ** 2).sum() for q, d in pairs])
    distinct = document[[0, 1, 2, 4, 5, 6]]  # the fourth repeats the first
    squared = [((a - b) ** 2).sum() for i, a in enumerate(distinct) for b in distinct[:i]]
    singular = np.linalg.svd(distinct, compute_uv=False)
    share = singular / singular.sum()
    found = embedding_statistics(batch)
    assert found["alignment"].item() == pytest.approx(expected_alignment, rel=1e-6)
    assert found["uniformity"].item() == pytest.approx(
        np.log(np.mean(np.exp(-2 * np.array(squared)))), rel=1e-6
    )
    assert found["effective_rank"].item() == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    cosines = [a @ b for i, a in enumerate(distinct) for b in distinct[:i]]
    assert found["mean_cosine"].item() == pytest.approx(np.mean(cosines), abs=1e-6)


def test_embedding_statistics_leave_out_what_a_batch_cannot_tell():
    assert embedding_statistics(graded_batch([0.1])) == {}
    assert set(embedding_statistics(graded_batch([0.1, 0.2]))) == {
        "uniformity",
        "effective_rank",
        "mean_cosine",
    }
    assert set(embedding_statistics(graded_batch([0.8]))) == {"alignment"}


def test_embedding_statistics_of_large_batches_look_at_so_many_texts():
    large = make_batch([(1, 1)] * 40)
    cut = first_of_each(large.groups.document_hash_N)[:16]
    expected = effective_rank(large.document_ND[cut])
    assert embedding_statistics(large, max_texts=16)["effective_rank"] == expected


def test_the_first_of_each_text_is_found():
    rows = first_of_each(torch.tensor([3, -5, 3, 9, -5]))
    assert rows.tolist() == [1, 0, 3]


def test_cosine_equals_the_formula_and_has_none_for_zero():
    x, y = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([0.0, 3.0, -4.0])
    assert cosine(x, y).item() == pytest.approx(-2 / 15)
    assert cosine(x, torch.zeros(3)).isnan()


def test_embeddings_that_are_not_finite_have_no_statistics():
    """NonFiniteSteps has to see the loss that comes of them; svdvals would raise before it."""
    batch = graded_batch([0.1, 0.5, 0.9])
    assert embedding_statistics(batch)
    assert embedding_statistics(batch._replace(document_ND=batch.document_ND * math.nan)) == {}
    assert embedding_statistics(batch._replace(query_BD=batch.query_BD / 0)) == {}
