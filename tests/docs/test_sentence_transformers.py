"""docs/coming_from_sentence_transformers.md: where it says "the same value", the values are the same."""

import pytest
import torch
from sentence_transformers.sentence_transformer import losses as theirs
from torch import Tensor

from codiemb import losses as ours
from tests.support.batches import graded_batch, make_batch

PAIRS, TRIPLETS = (make_batch([(1, negatives)] * 6, dim=8) for negatives in (0, 1))
SCORED = graded_batch([0.9, 0.1, 0.5, 0.5, 0.0, 1.0], dim=8)
TEACHER = [[9.5, -3.0, 1.25], [4.0, 4.0, -11.0], [7.0, 2.0, 8.5], [0.5, 1.0, -2.0]]
TAUGHT = make_batch([(1, 2)] * 4, teacher_scores=[score for row in TEACHER for score in row], dim=8)
BOTH_WAYS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
QUERIES = {"directions": ("query_to_doc", "query_to_query")}
DOCUMENTS = {"directions": ("query_to_doc", "doc_to_doc")}


def columns(batch) -> list[Tensor]:
    """Anchor, positive and, where there are any, negative."""
    width = len(batch.document_ND) // len(batch.query_BD)
    return [batch.query_BD, *(batch.document_ND[k::width] for k in range(width))]


def ranking(**options):
    return theirs.MultipleNegativesRankingLoss(model=None, **options)


@pytest.mark.parametrize(
    ("our_loss", "their_loss", "batch"),
    [
        (ours.InfoNCE(0.05), ranking(), TRIPLETS),
        (ours.InfoNCE(0.02), ranking(scale=50.0), PAIRS),
        (ours.InfoNCE(0.05, symmetric=True), ranking(**BOTH_WAYS), TRIPLETS),
        (ours.InfoNCE(0.05, query_query=True), ranking(**QUERIES), TRIPLETS),
        (ours.InfoNCE(0.05, document_document=True), ranking(**DOCUMENTS), PAIRS),
        (ours.CoSENT(0.05), theirs.CoSENTLoss(model=None), SCORED),
        (ours.AnglE(0.05), theirs.AnglELoss(model=None), SCORED),
    ],
    ids=["ranking", "scale", "symmetric", "query_query", "document_document", "cosent", "angle"],
)
def test_a_loss_has_the_value_of_its_counterpart(our_loss, their_loss, batch):
    expected = their_loss.compute_loss_from_embeddings(columns(batch), batch.groups.score_N.double())
    torch.testing.assert_close(our_loss(batch).value, expected)


@pytest.mark.parametrize(
    ("our_loss", "their_loss", "factor"),
    [
        (ours.MarginMSE(1.0), theirs.MarginMSELoss(model=None), 1.0),
        (ours.DistillKL(1.0, 1.0), theirs.DistillKLDivLoss(model=None), 1.0),
        (
            ours.DistillKL(0.2, 3.0),
            theirs.DistillKLDivLoss(model=None, student_temperature=0.2, teacher_temperature=3.0),
            0.2**2,
        ),
    ],
    ids=["margin", "kl", "kl with temperatures"],
)
def test_a_teachers_scores_have_the_value_of_the_counterpart(our_loss, their_loss, factor):
    labels = torch.tensor(TEACHER, dtype=torch.float64)
    expected = their_loss.compute_loss_from_embeddings(columns(TAUGHT), labels)
    torch.testing.assert_close(our_loss(TAUGHT).value * factor, expected)


def test_matryoshka_is_the_sum_of_the_loss_over_the_widths():
    cut = [[column[:, :dim] for column in columns(TRIPLETS)] for dim in (8, 4, 2)]
    expected = sum(
        w * ranking().compute_loss_from_embeddings(c, None) for w, c in zip((1, 1, 2), cut, strict=True)
    )
    loss = ours.Matryoshka(ours.InfoNCE(0.05), dims=[8, 4, 2], weights=[1, 1, 2])
    torch.testing.assert_close(loss(TRIPLETS).value, expected)


def test_the_same_text_twice_is_masked_unless_told_otherwise():
    twice = make_batch([(1, 0)] * 3, document_hash=[7, 7, 8])
    expected = ranking().compute_loss_from_embeddings(columns(twice), None)
    torch.testing.assert_close(ours.InfoNCE(0.05, mask_false_negatives=False)(twice).value, expected)
    assert ours.InfoNCE(0.05)(twice).value < expected
