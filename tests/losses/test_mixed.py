"""Graded and Ungraded against the loss on a batch put together by hand; the mixed objective's two halves."""

import pytest
import torch

from codiemb.losses import CoSENT, Graded, InfoNCE, MidLayerInfoNCE, Ungraded
from tests.support import oracles
from tests.support.batches import assert_same, make_batch, value_and_gradients

NAN = float("nan")
GROUPS = [(1, 1), (1, 0), (2, 1), (1, 0), (1, 0), (1, 2)]
SCORES = [NAN, NAN, 1.0, NAN, NAN, NAN, 0.2, 1.0, NAN, NAN, NAN]  # queries 1, 3 and 4 are graded
# an STS text is the text of an IR positive
HASHES = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1000, 1008, 1009, 1010]


@pytest.fixture
def batch():
    return make_batch(GROUPS, scores=SCORES, document_hash=HASHES, middle=True)


@pytest.mark.parametrize(
    ("loss", "oracle", "graded"),
    [
        (Ungraded(InfoNCE(0.1)), lambda b: oracles.info_nce(b, 0.1), False),
        (Graded(InfoNCE(0.1)), lambda b: oracles.info_nce(b, 0.1), True),
        (Graded(CoSENT(0.3)), lambda b: oracles.cosent(b, 0.3), True),
        (Graded(MidLayerInfoNCE(0.1)), lambda b: oracles.mid_layer_info_nce(b, 0.1, 1.0), True),
    ],
    ids=["ungraded InfoNCE", "graded InfoNCE", "graded CoSENT", "graded middle layer"],
)
def test_a_loss_sees_the_queries_of_its_kind_and_nothing_else(batch, loss, oracle, graded):
    value = assert_same(loss, lambda b: oracle(oracles.part(b, graded)), batch)
    assert value > 1e-3
    if not isinstance(loss.loss, CoSENT):  # which leaves out unscored documents by itself
        assert not torch.isclose(value, loss.loss(batch).value)


@pytest.mark.parametrize(
    ("loss", "scores"), [(Graded(CoSENT()), [NAN] * 11), (Ungraded(InfoNCE()), [0.5] * 11)]
)
def test_a_batch_without_such_queries_is_zero_with_a_graph(loss, scores):
    value, gradients = value_and_gradients(lambda b: loss(b).value, make_batch(GROUPS, scores=scores))
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_logs_are_those_of_the_loss_inside(batch):
    logs = Ungraded(InfoNCE(0.1))(batch).logs
    assert logs.keys() == InfoNCE(0.1)(batch).logs.keys()
    assert logs["masked_share"] == 0
