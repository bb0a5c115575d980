"""Losses made of losses: a weighted sum of terms, and one loss at several embedding widths."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from codiemb.batch import EmbeddedBatch, TokenStates
from codiemb.losses.base import (
    LossOutput,
    full_precision,
    is_count,
    map_embeddings,
    require_loss,
    require_weights,
)


class WeightedSum(nn.Module):
    """sum over terms of weight x term(batch).

    Logs each term's unweighted value under its name and the term's own logs under `name/key`. A term of
    weight 0 is not computed. Example: {"pearson": (2.0, Pearson()), "rank_kl": (0.156, RankKL()), "pro":
    (0.5, PRO())}.
    """

    def __init__(self, terms: Mapping[str, tuple[float | int, nn.Module]]) -> None:
        super().__init__()
        self.weights = require_weights({name: weight for name, (weight, _) in terms.items()})
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})

    def forward(self, batch: EmbeddedBatch | TokenStates) -> LossOutput:
        """The weighted sum; its mean over ranks is that of the global batch if every term's is."""
        return _weighted_sum({name: (self.weights[name], self.terms[name], batch) for name in self.terms})


class Matryoshka(nn.Module):
    """sum over dims of weight x loss(embeddings cut to their first `dim` entries and normalised again).

    Wraps any loss, middle-layer embeddings included. Logs as WeightedSum does, under `dim_<dim>`.
    Source: Matryoshka representation learning, arXiv 2205.13147.

    Args:
        loss: any loss on an EmbeddedBatch.
        dims: widths, each at most the embedding's.
        weights: one for each width; None is 1 for all.
    """

    def __init__(
        self, loss: nn.Module, dims: Sequence[int], weights: Sequence[float | int] | None = None
    ) -> None:
        super().__init__()
        if not _is_list(dims) or not dims or not all(map(is_count, dims)) or len({*dims}) != len(dims):
            raise ValueError(f"dims must be a list of different integers of at least 1, got {dims!r}")
        weights = [1.0] * len(dims) if weights is None else weights
        if not _is_list(weights) or len(weights) != len(dims):
            raise ValueError(
                f"weights must be a list of {len(dims)}, one for each of the dims, got {weights!r}"
            )
        named = require_weights({f"dim_{d}": w for d, w in zip(dims, weights, strict=True)})
        self.loss = require_loss("loss", loss)
        self.dims = tuple(map(int, dims))
        self.weights = tuple(named.values())

    def check_width(self, width: int) -> None:
        """Raises ValueError where an embedding of this width is narrower than one of the dims."""
        if max(self.dims) > width:
            raise ValueError(f"Matryoshka dims {list(self.dims)} exceed the embedding width {width}")

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The weighted sum of the loss over all widths."""
        self.check_width(batch.query_BD.shape[1])
        return _weighted_sum(
            {
                f"dim_{dim}": (weight, self.loss, _truncated(batch, dim))
                for dim, weight in zip(self.dims, self.weights, strict=True)
            }
        )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _truncated(batch: EmbeddedBatch, dim: int) -> EmbeddedBatch:
    return map_embeddings(batch, lambda embedding: normalize(embedding[:, :dim], dim=1))


def _weighted_sum(
    terms: Mapping[str, tuple[float, nn.Module, EmbeddedBatch | TokenStates]],
) -> LossOutput:
    values: list[Tensor] = []
    logs: dict[str, Tensor] = {}
    for name, (weight, term, batch) in terms.items():
        if weight == 0:
            continue
        output: LossOutput = term(batch)
        values.append(weight * output.value)
        logs[name] = output.value.detach()
        logs.update({f"{name}/{key}": value for key, value in output.logs.items()})
    return LossOutput(torch.stack(values).sum(), logs)
