"""Batches for the loss tests: ragged, with duplicates, and the gradient of a loss with respect to them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from codiemb.batch import EmbeddedBatch, Groups

EMBEDDINGS = ("query_BD", "document_ND", "middle_query_BD", "middle_document_ND")


def make_batch(
    groups: list[tuple[int, int]],
    *,
    scores: list[float] | None = None,
    teacher_scores: list[float] | None = None,
    document_hash: list[int] | None = None,
    query_hash: list[int] | None = None,
    dim: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    middle: bool = False,
) -> EmbeddedBatch:
    """A batch with (positives, negatives) per query; texts differ unless hashes say otherwise.

    Equal hashes get equal embeddings within a side, as an encoder would give them.
    """
    generator = torch.Generator().manual_seed(seed)
    owner = [i for i, (p, n) in enumerate(groups) for _ in range(p + n)]
    is_positive = [k < p for p, n in groups for k in range(p + n)]
    document_hash = document_hash or [1000 + k for k in range(len(owner))]
    query_hash = query_hash or list(range(len(groups)))

    def embeddings(hashes: list[int]) -> Tensor:
        x = normalize(torch.randn(len(hashes), dim, generator=generator, dtype=torch.float64), dim=1)
        return torch.stack([x[hashes.index(h)] for h in hashes]).to(dtype)

    return EmbeddedBatch(
        query_BD=embeddings(query_hash),
        document_ND=embeddings(document_hash),
        groups=Groups(
            owner_N=torch.tensor(owner),
            is_positive_N=torch.tensor(is_positive),
            score_N=torch.tensor(scores or [float("nan")] * len(owner)),
            query_hash_B=torch.tensor(query_hash),
            document_hash_N=torch.tensor(document_hash),
            teacher_score_N=None if teacher_scores is None else torch.tensor(teacher_scores),
        ),
        middle_query_BD=embeddings(query_hash) if middle else None,
        middle_document_ND=embeddings(document_hash) if middle else None,
    )


def graded_batch(scores: list[float], **options) -> EmbeddedBatch:
    """One document a query, as STS records are."""
    return make_batch([(1, 0)] * len(scores), scores=scores, **options)


def with_similarities(similarities: Tensor, scores: Tensor) -> EmbeddedBatch:
    """A graded batch whose i-th pair has similarity i of the list (unit vectors in the plane)."""
    batch = graded_batch(scores.tolist(), dim=2)
    angle = torch.arccos(similarities.double())
    return batch._replace(
        query_BD=torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(len(angle), 1),
        document_ND=torch.stack([angle.cos(), angle.sin()], dim=1),
        groups=batch.groups._replace(score_N=scores),
    )


def regrouped(batch: EmbeddedBatch, **columns) -> EmbeddedBatch:
    """The same embeddings in other groups."""
    return batch._replace(groups=batch.groups._replace(**columns))


def value_and_gradients(
    loss: Callable[[EmbeddedBatch], Tensor], batch: EmbeddedBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """The scalar and its gradient with respect to every embedding of the batch; zeros where it has none.

    Under anomaly detection, so a NaN anywhere in the backward pass is an error even if a mask hides it.
    """
    leaves = {
        name: getattr(batch, name).detach().clone().requires_grad_()
        for name in EMBEDDINGS
        if getattr(batch, name) is not None
    }
    with torch.autograd.set_detect_anomaly(True):
        value = loss(batch._replace(**leaves))
        assert value.requires_grad, "the loss has lost its graph"
        value.backward()
    return value.detach(), {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()
    }


def assert_same(loss, oracle, batch: EmbeddedBatch, tolerance: float = 1e-9) -> Tensor:
    """Value and gradient of a loss equal those of its oracle; returns the value."""
    value, gradients = value_and_gradients(lambda b: loss(b).value, batch)
    expected, expected_gradients = value_and_gradients(oracle, batch)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient,
            expected_gradients[name],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, name=name: f"{name}: {m}",
        )
    return value
