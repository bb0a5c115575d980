"""WeightedSum and Matryoshka: sums of terms, their logs, their errors."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from codiemb.losses import PRO, InfoNCE, LossOutput, Matryoshka, MidLayerInfoNCE, Pearson, RankKL, WeightedSum
from tests.support.batches import assert_same, graded_batch, make_batch, value_and_gradients

SCORES = [1.0, 0.4, 1.0, 0.9, 0.0]


class Learned(nn.Module):
    """A loss with a parameter, to see that it is registered."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return LossOutput(self.scale * batch.query_BD.sum(), {"scale": self.scale.detach()})


class Untouchable(nn.Module):
    """A loss that must not run."""

    def forward(self, batch):
        raise AssertionError("a term of weight 0 was computed")


def test_the_codiemb_sts_objective_is_the_weighted_sum_of_its_terms():
    terms = {"pearson": (2.0, Pearson()), "rank_kl": (5.0, RankKL()), "pro": (0.5, PRO())}
    terms["mid"] = (1.0, MidLayerInfoNCE())
    batch = graded_batch(SCORES, middle=True)
    assert_same(
        WeightedSum(terms), lambda b: sum(weight * term(b).value for weight, term in terms.values()), batch
    )


def test_logs_hold_each_unweighted_value_and_the_terms_own_logs():
    batch = graded_batch(SCORES, middle=True)
    value, logs = WeightedSum({"pearson": (2, Pearson()), "mid": (3.0, MidLayerInfoNCE())})(batch)
    assert logs["pearson"] == Pearson()(batch).value
    assert logs["mid/num_anchors"] == 2
    torch.testing.assert_close(value, 2 * logs["pearson"] + 3 * logs["mid"])
    assert not any(log.requires_grad for log in logs.values())


def test_a_term_of_weight_0_is_not_computed():
    value, logs = WeightedSum({"pearson": (1.0, Pearson()), "off": (0.0, Untouchable())})(
        graded_batch(SCORES)
    )
    assert value == Pearson()(graded_batch(SCORES)).value
    assert set(logs) == {"pearson"}


def test_terms_are_registered_so_their_parameters_train():
    loss = WeightedSum({"learned": (2.0, Learned())})
    assert [name for name, _ in loss.named_parameters()] == ["terms.learned.scale"]
    batch = make_batch([(1, 0), (1, 0)])
    loss(batch).value.backward()
    torch.testing.assert_close(loss.terms["learned"].scale.grad, (2 * batch.query_BD.sum()).float())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_named(weight):
    with pytest.raises(ValueError, match="pearson"):
        WeightedSum({"ok": (1.0, RankKL()), "pearson": (weight, Pearson())})


@pytest.mark.parametrize("terms", [{}, {"pearson": (0.0, Pearson())}], ids=["none", "all of weight 0"])
def test_a_sum_of_nothing_is_an_error(terms):
    with pytest.raises(ValueError, match="at least one term"):
        WeightedSum(terms)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.0]])
def test_matryoshka_is_the_loss_on_cut_and_normalised_embeddings(weights):
    dims, batch = [8, 4, 3], make_batch([(1, 2), (2, 1), (1, 0)], dim=8)

    def by_hand(b):
        total = 0
        for dim, weight in zip(dims, weights or [1.0, 1.0, 1.0], strict=True):
            cut = b._replace(
                query_BD=normalize(b.query_BD[:, :dim], dim=1),
                document_ND=normalize(b.document_ND[:, :dim], dim=1),
            )
            total = total + weight * InfoNCE(0.1)(cut).value
        return total

    loss = Matryoshka(InfoNCE(0.1), dims, weights)
    assert_same(loss, by_hand, batch)
    logs = loss(batch).logs
    assert {"dim_8", "dim_4", "dim_4/accuracy@1"} <= set(logs)
    assert ("dim_3" in logs) == (weights is None)


def test_matryoshka_cuts_the_middle_layer_too():
    batch = graded_batch(SCORES, middle=True, dim=6)
    _, gradients = value_and_gradients(lambda b: Matryoshka(MidLayerInfoNCE(), [2])(b).value, batch)
    used = gradients["middle_query_BD"].abs().sum(dim=0) > 0
    assert used.tolist() == [True, True, False, False, False, False]


def test_matryoshka_at_full_width_changes_nothing():
    batch = make_batch([(1, 2), (2, 1)], dim=8)
    torch.testing.assert_close(Matryoshka(InfoNCE(), [8])(batch).value, InfoNCE()(batch).value)


def test_matryoshka_composes_with_weighted_sum():
    batch = graded_batch(SCORES, dim=8)
    loss = WeightedSum({"sts": (1.0, Matryoshka(WeightedSum({"pearson": (2.0, Pearson())}), [8, 4]))})
    assert {"sts", "sts/dim_8", "sts/dim_4/pearson"} <= set(loss(batch).logs)


@pytest.mark.parametrize(
    ("dims", "weights", "message"),
    [
        ([], None, "at least 1"),
        ([4, 4], None, "different"),
        ([0], None, "at least 1"),
        ([4, 2], [1.0], "weights must be a list of 2"),
    ],
)
def test_bad_dims_are_errors(dims, weights, message):
    with pytest.raises(ValueError, match=message):
        Matryoshka(InfoNCE(), dims, weights)


def test_a_dim_above_the_width_is_an_error_with_both_numbers():
    with pytest.raises(ValueError, match=r"\[16\] exceed the embedding width 6"):
        Matryoshka(InfoNCE(), [16])(make_batch([(1, 0)]))
