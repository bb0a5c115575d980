"""The list losses against loops over their formulas, on honest and on degenerate lists."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from codiemb.losses import PRO, AnglE, CoSENT, ListNet, Pearson, RankKL
from tests.support import oracles
from tests.support.batches import (
    assert_same,
    graded_batch,
    make_batch,
    regrouped,
    value_and_gradients,
    with_similarities,
)

T = 0.3
LOSSES = {
    "pearson": (Pearson(), oracles.pearson),
    "rank_kl": (RankKL(T), partial(oracles.rank_kl, temperature=T)),
    "list_net": (ListNet(T), partial(oracles.list_net, temperature=T)),
    "pro": (PRO(T), partial(oracles.pro, temperature=T)),
    "centred_pro": (PRO(T, centred=True), partial(oracles.pro, temperature=T, centred=True)),
    "cosent": (CoSENT(T), partial(oracles.cosent, temperature=T)),
    "angle": (AnglE(T), partial(oracles.angle, temperature=T)),
}
LISTS = {
    "distinct": [0.9, 0.1, 0.5, 0.75, 0.0, 1.0],
    "ties": [1.0, 0.5, 0.5, 0.0, 1.0, 0.5, 0.0],
    "two": [0.25, 1.0],
    "one_above_a_tie": [0.0, 0.0, 0.0, 1.0],
    "unnormalised": [5.0, 3.5, 0.0, 3.5, 2.0],
}
NAN = float("nan")
every_loss = pytest.mark.parametrize(("loss", "oracle"), LOSSES.values(), ids=LOSSES)
scores_and_similarities = st.lists(
    st.tuples(st.integers(0, 5), st.floats(-0.99, 0.99)), min_size=2, max_size=12
).filter(lambda rows: len({y for y, _ in rows}) > 1 and len({round(s, 3) for _, s in rows}) > 1)


def list_batch(rows):
    scores = torch.tensor([y / 5 for y, _ in rows], dtype=torch.float64)
    return with_similarities(torch.tensor([s for _, s in rows], dtype=torch.float64), scores)


@every_loss
@pytest.mark.parametrize("scores", LISTS.values(), ids=LISTS)
def test_value_and_gradient_equal_the_formula(loss, oracle, scores):
    value = assert_same(loss, oracle, graded_batch(scores))
    assert value.abs() > 1e-3


@every_loss
@settings(max_examples=10, deadline=None)
@given(rows=scores_and_similarities)
def test_any_list_equals_the_formula(loss, oracle, rows):
    assert_same(loss, oracle, list_batch(rows), tolerance=1e-7)


@every_loss
def test_gradient_agrees_with_finite_differences(loss, oracle):
    batch = graded_batch(LISTS["ties"], dim=4)
    inputs = (batch.query_BD.clone().requires_grad_(), batch.document_ND.clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda q, d: loss(batch._replace(query_BD=q, document_ND=d)).value, inputs
    )


@every_loss
def test_several_documents_a_query_are_one_list_and_unscored_ones_are_left_out(loss, oracle):
    batch = make_batch([(1, 2), (2, 1)], scores=[1.0, NAN, 0.2, 0.6, 0.6, NAN])
    assert_same(loss, oracle, batch)
    _, gradients = value_and_gradients(lambda b: loss(b).value, batch)
    touched = gradients["document_ND"].abs().sum(dim=1) > 0
    assert touched.tolist() == [True, False, True, True, True, False]


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scores", [[0.7], [0.7] * 4], ids=["one pair", "equal scores"])
def test_a_list_without_an_order_is_zero_with_a_graph_and_gradient_zero(loss, oracle, scores, dtype):
    value, gradients = value_and_gradients(lambda b: loss(b).value, graded_batch(scores, dtype=dtype))
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_similarities_never_give_nan(loss, oracle, dtype):
    scores = torch.tensor([0.0, 0.4, 1.0], dtype=dtype)
    batch = with_similarities(torch.full((3,), 0.3, dtype=torch.float64), scores)
    batch = batch._replace(query_BD=batch.query_BD.to(dtype), document_ND=batch.document_ND.to(dtype))
    value, gradients = value_and_gradients(lambda b: loss(b).value, batch)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    if isinstance(loss, Pearson):
        assert value == 0
        assert all((gradient == 0).all() for gradient in gradients.values())
    else:
        assert gradients["document_ND"].abs().sum() > 0, "an order to learn must be learnt from a tie"


@every_loss
def test_a_batch_without_any_score_is_an_error(loss, oracle):
    with pytest.raises(ValueError, match="no document has a finite score"):
        loss(make_batch([(1, 1), (1, 0)]))


@pytest.mark.parametrize("name", ["rank_kl", "list_net", "pro", "cosent"])
def test_fp32_at_temperature_0_01_stays_near_float64(name):
    loss = {"rank_kl": RankKL, "list_net": ListNet, "pro": PRO, "cosent": CoSENT}[name](temperature=0.01)
    similarities = torch.tensor([-1.0, -0.5, 0.0, 0.9, 1.0], dtype=torch.float64)  # the worst order there is
    double = with_similarities(similarities, torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0], dtype=torch.float64))
    single = double._replace(query_BD=double.query_BD.float(), document_ND=double.document_ND.float())
    value, gradients = value_and_gradients(lambda b: loss(b).value, single)
    expected, expected_gradients = value_and_gradients(lambda b: loss(b).value, double)
    assert value > 10
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient.double(), expected_gradients[key], rtol=1e-3, atol=1e-3)


@every_loss
def test_bf16_embeddings_under_autocast_are_judged_in_fp32(loss, oracle):
    batch = graded_batch(LISTS["ties"], dtype=torch.bfloat16, dim=32)
    upcast = batch._replace(query_BD=batch.query_BD.float(), document_ND=batch.document_ND.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(batch).value
    assert value.dtype == torch.float32
    assert value == loss(upcast).value


@every_loss
@settings(max_examples=15, deadline=None)
@given(rows=scores_and_similarities, data=st.data())
def test_the_order_of_pairs_does_not_matter(loss, oracle, rows, data):
    shuffled = data.draw(st.permutations(rows))
    torch.testing.assert_close(loss(list_batch(shuffled)).value, loss(list_batch(rows)).value)


@settings(max_examples=25, deadline=None)
@given(rows=scores_and_similarities, shift=st.floats(-0.5, 0.5), scale=st.floats(0.1, 0.5))
def test_pearson_is_invariant_to_shift_and_scale_of_either_side(rows, shift, scale):
    value = Pearson()(list_batch(rows)).value
    moved_similarities = [(y, scale * s + shift) for y, s in rows]
    torch.testing.assert_close(Pearson()(list_batch(moved_similarities)).value, value, rtol=1e-6, atol=1e-6)
    moved_scores = [(scale * y + shift, s) for y, s in rows]
    torch.testing.assert_close(Pearson()(list_batch(moved_scores)).value, value, rtol=1e-6, atol=1e-6)


def test_pearson_is_0_for_agreement_1_for_none_and_2_for_the_opposite():
    similarities = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for scores, expected in (
        ([0.0, 0.2, 0.4, 0.6], 0.0),
        ([0.2, 0.0, 0.6, 0.4], 0.4),
        ([0.6, 0.4, 0.2, 0.0], 2.0),
    ):
        value = Pearson()(with_similarities(similarities, torch.tensor(scores, dtype=torch.float64))).value
        assert value.item() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(rows=scores_and_similarities)
def test_rank_kl_is_never_negative(rows):
    assert RankKL()(list_batch(rows)).value >= 0


def test_rank_kl_is_zero_only_where_similarities_follow_the_ranks():
    ranks = torch.tensor([1.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    scores = torch.tensor([0.9, 0.3, 0.3, 0.2], dtype=torch.float64)  # only their order counts
    right, _ = value_and_gradients(lambda b: RankKL()(b).value, with_similarities(ranks * 0.9999999, scores))
    wrong, _ = value_and_gradients(lambda b: RankKL()(b).value, with_similarities(ranks.flip(0), scores))
    assert right.item() == pytest.approx(0, abs=1e-9)
    assert wrong > 1


def test_rank_kl_is_not_divided_by_the_length_of_the_list():
    n = 32
    ranks = torch.linspace(1, 0, n, dtype=torch.float64)
    similarities = torch.linspace(-0.2, 0.9, n, dtype=torch.float64)
    released = kl_div((similarities / 0.05).log_softmax(0), (ranks / 0.05).softmax(0), reduction="batchmean")
    value = RankKL()(with_similarities(similarities, ranks)).value
    torch.testing.assert_close(value, released * n)


def test_pro_grows_with_the_scale_of_scores_as_documented():
    batch = graded_batch(LISTS["distinct"])
    large = regrouped(batch, score_N=batch.groups.score_N * 5)
    _, gradients = value_and_gradients(lambda b: PRO()(b).value, batch)
    _, large_gradients = value_and_gradients(lambda b: PRO()(b).value, large)
    assert large_gradients["query_BD"].norm() > 2 * gradients["query_BD"].norm()


@pytest.mark.parametrize("kind", [RankKL, ListNet, PRO, CoSENT, AnglE])
def test_a_temperature_of_zero_is_an_error(kind):
    with pytest.raises(ValueError, match="temperature"):
        kind(temperature=0.0)


def test_angle_halves_embeddings():
    with pytest.raises(ValueError, match="odd"):
        AnglE()(graded_batch([0.1, 0.9], dim=5))
