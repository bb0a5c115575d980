"""List losses on graded pairs: one list over all ranks, so that the loss does not depend on world size.

L, as a shape letter, counts the scored documents of all ranks.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import gather_rows
from codiemb.losses.base import LossOutput, full_precision, require_positive
from codiemb.metrics import average_ranks
from codiemb.take_rows import take_rows

Similarity = Callable[[Float[Tensor, "n D"], Float[Tensor, "n D"]], Float[Tensor, " n"]]


def dot_product(x_nD: Float[Tensor, "n D"], y_nD: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Of normalised embeddings: their cosine."""
    return (x_nD * y_nD).sum(dim=1)


def graded_list(
    batch: EmbeddedBatch, similarity: Similarity = dot_product
) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """(similarity, score) of every document of all ranks that has a finite score.

    The similarity is that of a document and its query; gathered with gradient, two floats a document. Every
    rank gets the same list, so every rank computes the same loss, and runs the collective before any branch.
    """
    scored_N = batch.groups.score_N.isfinite()
    owner_n = batch.groups.owner_N[scored_N]
    similarity_n = similarity(take_rows(batch.query_BD, owner_n), batch.document_ND[scored_N])
    score_n = batch.groups.score_N[scored_N].to(similarity_n.dtype)
    similarity_L, score_L = gather_rows(torch.stack([similarity_n, score_n], dim=1)).unbind(1)
    if len(score_L) == 0:
        raise ValueError(
            "a graded loss got a batch in which no document has a finite score: give the records "
            "positive_scores, or use a loss that needs none (InfoNCE) for this task"
        )
    return similarity_L, score_L.detach()


def zero_with_graph(similarity_L: Float[Tensor, " L"]) -> LossOutput:
    """What a degenerate list yields: 0 with gradient 0, through the same collectives as any list."""
    return LossOutput(similarity_L.sum() * 0, {})


class Pearson(nn.Module):
    """1 - linear correlation of similarities s and scores y.

        L = 1 - cov(s, y) / (sd(s) sd(y))

    Invariant to shift and scale of either side: it leaves the level of similarities to the other terms. A
    list whose similarities or scores have sd <= eps counts as constant and gives zero. Source: method of
    CoDiEmb, arXiv 2508.11442, whose code has no eps.

    Args:
        eps: standard deviation up to which a list counts as constant; below 0.5, which no list of scores in
            [0, 1] exceeds.
    """

    def __init__(self, eps: float | int = 1e-6) -> None:
        super().__init__()
        self.eps = require_positive("eps", eps)
        if self.eps >= 0.5:
            raise ValueError(f"eps must be below 0.5, or every list is constant, got {eps!r}")

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        s_L, y_L = graded_list(batch)
        s_L, y_L = s_L - s_L.mean(), y_L - y_L.mean()
        sd_s, sd_y = s_L.square().mean().sqrt(), y_L.square().mean().sqrt()
        if sd_s <= self.eps or sd_y <= self.eps:
            return zero_with_graph(s_L)
        return LossOutput(1 - (s_L * y_L).mean() / (sd_s * sd_y), {})


class RankKL(nn.Module):
    """KL divergence from the ranking of the scores to the ranking of the similarities.

        g_i = (L - 1 - r_i) / (L - 1), r_i the descending 0-based rank of y_i, ties averaged
        p = softmax(g / temperature), q = softmax(s / temperature);   loss = sum_i p_i (log p_i - log q_i)

    ListNet with ranks for scores, less the entropy of p: 0 exactly when q = p. A true KL: the released
    CoDiEmb code divides by L, so its weight 5 at 32 pairs is a weight of 0.156 here. Equal scores give zero
    (no ranking to learn). Source: arXiv 2508.11442.

    Args:
        temperature: divides ranks and similarities; a lower one looks at the top of the list.
    """

    def __init__(self, temperature: float | int = 0.05) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        s_L, y_L = graded_list(batch)
        if y_L.min() == y_L.max():
            return zero_with_graph(s_L)
        target_L = 1 - average_ranks(y_L) / (len(y_L) - 1)
        log_p_L = log_softmax(target_L / self.temperature, dim=0)
        log_q_L = log_softmax(s_L / self.temperature, dim=0)
        return LossOutput((log_p_L.exp() * (log_p_L - log_q_L)).sum(), {})


class ListNet(nn.Module):
    """Cross-entropy of the top-one probabilities of scores and similarities.

        L = - sum_i softmax(y / temperature)_i log softmax(s / temperature)_i

    The list-wise baseline to RankKL, which replaces scores by ranks. Equal scores give zero.
    Source: Cao et al. 2007, Learning to Rank.

    Args:
        temperature: divides scores and similarities; a lower one looks at the top of the list.
    """

    def __init__(self, temperature: float | int = 0.05) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        s_L, y_L = graded_list(batch)
        if y_L.min() == y_L.max():
            return zero_with_graph(s_L)
        p_L = (y_L / self.temperature).softmax(dim=0)
        return LossOutput(-(p_L * log_softmax(s_L / self.temperature, dim=0)).sum(), {})


class CoSENT(nn.Module):
    """Every pair of pairs in the wrong order, through one logsumexp.

        L = log(1 + sum over y_i > y_j of exp((s_j - s_i) / temperature))

    Uses only the order of the scores; PRO also uses their gaps, and AnglE another similarity. Memory O(L^2).
    Without an ordered pair the sum is empty and the loss a zero with a graph. Source: Su 2022
    (kexue.fm/archives/8847).

    Args:
        temperature: divides differences of similarities.
    """

    def __init__(self, temperature: float | int = 0.05) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The same value on every rank."""
        return LossOutput(wrong_order(*graded_list(batch), self.temperature), {})


def wrong_order(s_L: Float[Tensor, " L"], y_L: Float[Tensor, " L"], temperature: float) -> Float[Tensor, ""]:
    """log(1 + sum over y_i > y_j of exp((s_j - s_i) / temperature))."""
    logit_LL = (s_L[None, :] - s_L[:, None]) / temperature  # [i, j] = s_j - s_i
    unordered_LL = y_L[:, None] <= y_L[None, :]
    logit_LL = logit_LL.masked_fill(unordered_LL, torch.finfo(s_L.dtype).min)
    return softplus(logit_LL.flatten().logsumexp(dim=0))
