"""The distillation losses against loops over their formulas, on ragged and on degenerate lists."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.losses import DistillKL, MarginMSE
from tests.support import oracles
from tests.support.batches import assert_same, make_batch, regrouped, value_and_gradients

NAN = float("nan")
LOSSES = {
    "distill_kl": (
        DistillKL(0.3, 2.0),
        partial(oracles.distill_kl, temperature=0.3, teacher_temperature=2.0),
    ),
    "margin_mse": (MarginMSE(0.3), partial(oracles.margin_mse, temperature=0.3)),
}
GROUPS = [(1, 2), (2, 1), (1, 0), (3, 2), (1, 3)]
TEACHER = [9.5, -3.0, 1.25, 4.0, 4.0, -11.0, 7.0, 2.0, NAN, 1.0, NAN, 3.5, NAN, NAN, 5.0, 5.0]
every_loss = pytest.mark.parametrize(("loss", "oracle"), LOSSES.values(), ids=LOSSES)
score = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0]), st.floats(-12, 12, width=32))


@st.composite
def ragged_batches(draw):
    """Any groups in which some query has a pair, so that both losses have something to say."""
    groups = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=5))
    scores = [draw(st.lists(score, min_size=p + n, max_size=p + n)) for p, n in [*groups, (1, 1)]]
    scores[-1] = [draw(st.floats(-12, 12, width=32)) for _ in range(2)]
    teacher_scores = [score for own in scores for score in own]
    return make_batch([*groups, (1, 1)], teacher_scores=teacher_scores, seed=draw(st.integers(0, 99)))


def fixed_batch(**options):
    return make_batch(GROUPS, teacher_scores=TEACHER, **options)


@every_loss
def test_value_and_gradient_equal_the_formula(loss, oracle):
    assert assert_same(loss, oracle, fixed_batch()) > 1e-2


@every_loss
@settings(max_examples=25, deadline=None)
@given(batch=ragged_batches())
def test_any_ragged_lists_equal_the_formula(loss, oracle, batch):
    assert_same(loss, oracle, batch, tolerance=1e-8)


@every_loss
def test_gradient_agrees_with_finite_differences(loss, oracle):
    batch = fixed_batch(dim=3)
    inputs = (batch.query_BD.clone().requires_grad_(), batch.document_ND.clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda q, d: loss(batch._replace(query_BD=q, document_ND=d)).value, inputs
    )


@every_loss
def test_documents_without_a_score_and_lists_of_one_have_no_part(loss, oracle):
    _, gradients = value_and_gradients(lambda b: loss(b).value, fixed_batch())
    touched_N = gradients["document_ND"].abs().sum(dim=1) > 0
    lists = [3, 3, 1, 5, 4]
    scored = [score == score and lists[i] > 1 for i, score in zip(owners(), TEACHER, strict=True)]
    if isinstance(loss, MarginMSE):  # the last query's positive has no score
        scored[12:] = [False] * 4
    assert touched_N.tolist() == scored


def owners() -> list[int]:
    return [i for i, group in enumerate(GROUPS) for _ in range(sum(group))]


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("teacher", [[NAN] * 4, [2.0, NAN, NAN, 1.0]], ids=["no score", "lists of one"])
def test_a_batch_without_a_list_is_zero_with_a_graph_and_gradient_zero(loss, oracle, dtype, teacher):
    batch = make_batch([(1, 1), (1, 1)], teacher_scores=teacher, dtype=dtype)
    value, gradients = value_and_gradients(lambda b: loss(b).value, batch)
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())
    assert all(log.isfinite() for log in loss(batch).logs.values())


@every_loss
def test_a_rank_without_queries_gives_zero_with_a_graph(loss, oracle):
    batch = fixed_batch()
    nothing = batch.of_queries(torch.zeros(len(GROUPS), dtype=torch.bool))
    value, _ = value_and_gradients(lambda b: loss(b).value, nothing)
    assert value == 0


@every_loss
def test_gold_scores_are_not_a_teachers(loss, oracle):
    batch = fixed_batch()
    graded = regrouped(batch, score_N=torch.rand(len(TEACHER)))
    assert loss(graded).value == loss(batch).value
    with pytest.raises(ValueError, match="have no teacher_score_N"):
        loss(make_batch(GROUPS, scores=[0.5] * len(TEACHER)))


@every_loss
@settings(max_examples=15, deadline=None)
@given(batch=ragged_batches(), shift=st.floats(-50, 50))
def test_the_level_of_the_teachers_scores_does_not_matter(loss, oracle, batch, shift):
    moved = regrouped(batch, teacher_score_N=batch.groups.teacher_score_N.double() + shift)
    torch.testing.assert_close(loss(moved).value, loss(batch).value, rtol=1e-9, atol=1e-9)


@every_loss
def test_fp32_stays_near_float64_for_a_teacher_that_is_sure(loss, oracle):
    sharp = type(loss)(0.02)
    double = make_batch(GROUPS, teacher_scores=[t * 20 for t in TEACHER])
    single = double._replace(query_BD=double.query_BD.float(), document_ND=double.document_ND.float())
    value, gradients = value_and_gradients(lambda b: sharp(b).value, single)
    expected, expected_gradients = value_and_gradients(lambda b: sharp(b).value, double)
    assert value.dtype == torch.float32
    assert value > 1
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient.double(), expected_gradients[key], rtol=1e-4, atol=1e-3)


def test_a_student_that_agrees_has_nothing_to_learn():
    """Scores that are the similarities, in units of the temperature: both losses are at their minimum, 0."""
    batch = make_batch(GROUPS)
    owner_N = batch.groups.owner_N
    teacher_N = (batch.query_BD[owner_N] * batch.document_ND).sum(dim=1) / 0.05
    agreed = regrouped(batch, teacher_score_N=teacher_N)
    for loss in (DistillKL(0.05), MarginMSE(0.05), DistillKL(0.1, 2.0)):
        value, gradients = value_and_gradients(lambda b, loss=loss: loss(b).value, agreed)
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert all(gradient.abs().max() < 1e-9 for gradient in gradients.values())


def test_logs_say_whether_the_teacher_is_followed_and_whether_the_temperature_fits():
    batch = make_batch([(1, 1), (1, 1), (1, 0)], teacher_scores=[4.0, 0.0, 1.0, 1.0, 2.0], dim=2)
    similarity = torch.tensor([0.1, 0.6, 0.5, 0.2, 0.9], dtype=torch.float64)
    batch = batch._replace(
        query_BD=torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(3, 1),
        document_ND=torch.stack([similarity, (1 - similarity**2).sqrt()], dim=1),
    )
    kl, margin = DistillKL()(batch).logs, MarginMSE(0.1)(batch).logs
    sure = torch.tensor([4.0, 0.0], dtype=torch.float64).softmax(0)[0].item()
    assert {key: value.item() for key, value in kl.items()} == pytest.approx(
        {"num_lists": 2, "agreement@1": 0.5, "teacher_share@1": (sure + 0.5) / 2}
    )
    assert {key: value.item() for key, value in margin.items()} == pytest.approx(
        {"num_lists": 2, "margin": (-5 + 3) / 2, "teacher_margin": 2}
    )
