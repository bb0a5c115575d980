"""MidLayerInfoNCE against loops over its formula; who is an anchor, who is a candidate."""

import pytest
import torch

from codiemb.losses import InfoNCE, MidLayerInfoNCE
from tests.support import oracles
from tests.support.batches import assert_same, graded_batch, make_batch, regrouped, value_and_gradients

SCORES = [1.0, 0.4, 1.0, 0.9, 0.0, 1.0]


@pytest.mark.parametrize("min_score", [1.0, 0.85, 0.3])
@pytest.mark.parametrize("mask", [True, False])
def test_value_and_gradient_equal_the_formula(min_score, mask):
    # document 4 repeats the text of anchor 0, document 3 the text of query 2, queries 2 and 5 are twins
    batch = graded_batch(
        SCORES,
        middle=True,
        document_hash=[100, 101, 102, 2, 100, 105],
        query_hash=[0, 1, 2, 3, 4, 2],
    )
    loss = MidLayerInfoNCE(0.1, min_score=min_score, mask_false_negatives=mask)
    assert_same(loss, lambda b: oracles.mid_layer_info_nce(b, 0.1, min_score, mask), batch)
    other = MidLayerInfoNCE(0.1, min_score=min_score, mask_false_negatives=not mask)
    assert abs(loss(batch).value - other(batch).value) > 1e-4


def test_unscored_documents_and_ragged_groups_are_candidates_and_other_anchors_of_a_query_are_not():
    nan = float("nan")
    batch = make_batch([(2, 1), (1, 1), (1, 0)], scores=[1.0, 1.0, 0.2, 1.0, nan, nan], middle=True)
    assert_same(MidLayerInfoNCE(0.1), lambda b: oracles.mid_layer_info_nce(b, 0.1, 1.0), batch)
    _, gradients = value_and_gradients(lambda b: MidLayerInfoNCE(0.1)(b).value, batch)
    assert (gradients["middle_document_ND"].abs().sum(dim=1) > 0).all()


def test_every_score_at_1_is_in_batch_info_nce_on_the_middle_layer():
    batch = graded_batch([1.0] * 5, middle=True)
    moved = batch._replace(query_BD=batch.middle_query_BD, document_ND=batch.middle_document_ND)
    assert MidLayerInfoNCE()(batch).value == pytest.approx(InfoNCE()(moved).value.item(), rel=1e-12)


def test_a_file_of_own_negatives_has_the_documents_of_the_batch_all_the_same():
    batch = graded_batch([1.0] * 5, middle=True)
    value = MidLayerInfoNCE(0.1)(batch).value
    assert value > 0
    assert MidLayerInfoNCE(0.1)(regrouped(batch, in_batch=False)).value == value


def test_only_the_middle_layer_gets_a_gradient():
    _, gradients = value_and_gradients(
        lambda b: MidLayerInfoNCE()(b).value, graded_batch(SCORES, middle=True)
    )
    assert gradients["query_BD"].abs().sum() == 0
    assert gradients["document_ND"].abs().sum() == 0
    assert gradients["middle_query_BD"].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_anchor_gives_zero_with_a_graph_and_gradient_zero(dtype):
    batch = graded_batch([0.2, 0.99, float("nan")], middle=True, dtype=dtype)
    value, gradients = value_and_gradients(lambda b: MidLayerInfoNCE()(b).value, batch)
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())
    logs = MidLayerInfoNCE()(batch).logs
    assert all(log.isfinite() for log in logs.values())
    assert logs["num_anchors"] == 0


def test_the_number_of_anchors_is_logged():
    assert MidLayerInfoNCE()(graded_batch(SCORES, middle=True)).logs["num_anchors"] == 3


def test_a_score_that_equals_min_score_is_an_anchor_although_fp32_rounds_it_down():
    batch = graded_batch(SCORES, middle=True)
    assert batch.groups.score_N[3].item() < 0.9
    assert MidLayerInfoNCE(min_score=0.9)(batch).logs["num_anchors"] == 4


def test_without_middle_embeddings_the_error_says_what_to_set():
    with pytest.raises(ValueError, match="set `middle_layer` on the encoder"):
        MidLayerInfoNCE()(graded_batch(SCORES))
