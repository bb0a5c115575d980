"""Losses that teach each query's own list what a teacher (a reranker, a larger encoder) thinks of it.

K, as a shape letter, is the number of documents in the longest list of this rank: a query's documents are a
row, in their order, and what is left of a row is not scored.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import sum_over_ranks, world_size
from codiemb.losses.base import LossOutput, full_precision, require_positive
from codiemb.losses.graded import dot_product
from codiemb.take_rows import take_rows


class DistillKL(nn.Module):
    """KL divergence from the teacher's distribution over a query's own documents to the model's.

        p_i = softmax over i's scored documents d of t(q_i, d) / teacher_temperature
        q_i = softmax over the same documents of s(q_i, d) / temperature
        L = (1/Q) sum_i sum_d p_id (log p_id - log q_id)

    s is the dot product of normalised embeddings, t the teacher's score as the record has it, Q the number of
    queries of the global batch that have two scored documents or more. A list of one teaches nothing; nor
    does a document without a score, positive or negative. Q is shared by all ranks, so that the mean of the
    value over ranks is L; nothing else is gathered. Without any list the value is a zero with a graph.

    It knows neither positives nor other queries' documents, which are InfoNCE's part. RankKL is the relative
    for gold scores, over one list of all queries. DistillKLDivLoss of sentence-transformers is this times
    temperature^2 (Hinton's factor); here that is for the weight.
    Logs, of the global batch: `num_lists` (Q); `agreement@1`, the share of lists whose nearest document is
    the teacher's best; `teacher_share@1`, the mean of p at that: near 1 the teacher names one document and
    says nothing of the others, and a higher `teacher_temperature` lets it say more.
    Source: listwise distillation, arXiv 2010.11386 and 2110.07367.
    Example: `+losses.ir.kl._target_=codiemb.losses.DistillKL +losses.ir.kl.teacher_temperature=2`.

    Args:
        temperature: divides similarities; as InfoNCE's, whose logits these are then.
        teacher_temperature: divides the teacher's scores. 1 is for the logits of a cross-encoder; for cosines
            give the temperature that their model was trained with.
    """

    def __init__(self, temperature: float | int = 0.02, teacher_temperature: float | int = 1.0) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)
        self.teacher_temperature = require_positive("teacher_temperature", teacher_temperature)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of this rank's queries."""
        lists = _Lists.of(batch)
        # finite, so that rows of nothing else give no NaN; its probability is 0 beside any score
        filler = torch.finfo(lists.similarity_BK.dtype).min
        s_BK = (lists.similarity_BK / self.temperature).masked_fill(~lists.is_scored_BK, filler)
        t_BK = (lists.teacher_BK / self.teacher_temperature).masked_fill(~lists.is_scored_BK, filler)
        log_q_BK, log_p_BK = log_softmax(s_BK, dim=1), log_softmax(t_BK, dim=1)
        p_BK = log_p_BK.exp()
        is_list_B = lists.is_scored_BK.sum(dim=1) >= 2
        agrees_B = t_BK.gather(1, s_BK.argmax(dim=1, keepdim=True)).squeeze(1) == t_BK.amax(dim=1)
        num_lists, *means = _means(is_list_B, agrees_B.to(p_BK.dtype), p_BK.amax(dim=1))
        kl_B = (p_BK * (log_p_BK - log_q_BK)).sum(dim=1)
        logs = dict(zip(("num_lists", "agreement@1", "teacher_share@1"), (num_lists, *means), strict=True))
        return LossOutput(_mean_over_ranks(kl_B, is_list_B, num_lists), logs)


class MarginMSE(nn.Module):
    """Squared difference between the model's margins and the teacher's, of positives over negatives.

        m(p, n) = (s(q_i, p) - s(q_i, n)) / temperature - (t(q_i, p) - t(q_i, n))
        L = (1/Q) sum_i (1 / (P_i N_i)) sum_p sum_n m(p, n)^2

    s is the dot product of normalised embeddings, t the teacher's score as the record has it; p and n run
    over the query's P_i scored positives and N_i scored hard negatives, Q counts the queries of the global
    batch that have both. A query counts once, however many pairs it has; where all have as many, as in the
    paper (one each), L is the mean over pairs. Q is shared by all ranks, so that the mean of the value over
    ranks is L; nothing else is gathered. Without any pair the value is a zero with a graph.

    It asks for the teacher's distances, DistillKL for its shares, most of all those of the best. Its size is
    that of squared margins, about 100 where a cross-encoder's are 10: beside InfoNCE its weight is far below
    1. Equals MarginMSELoss of sentence-transformers at temperature 1. Memory O(B K), no pair is formed.
    Logs, means over the queries of the global batch that have a pair: `margin` and `teacher_margin` (before
    they are subtracted; far apart, it is the temperature that does not fit), and `num_lists` (Q).
    Source: Hofstätter et al. 2020, arXiv 2010.02666.
    Example: `+losses.ir.margin._target_=codiemb.losses.MarginMSE +losses.ir.margin.weight=0.05`.

    Args:
        temperature: divides similarities. Those of normalised embeddings differ by 2 at most, a
            cross-encoder's logits by 10 and more: at 0.05 a gap of 0.5 is a margin of 10. Give 1 for a
            teacher of cosines, whose margins are then the model's own.
    """

    def __init__(self, temperature: float | int = 0.05) -> None:
        super().__init__()
        self.temperature = require_positive("temperature", temperature)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of this rank's queries."""
        lists = _Lists.of(batch)
        positive_BK = lists.is_scored_BK & lists.is_positive_BK
        negative_BK = lists.is_scored_BK & ~lists.is_positive_BK
        has_pair_B = positive_BK.any(dim=1) & negative_BK.any(dim=1)
        s_BK = lists.similarity_BK / self.temperature
        error_BK = s_BK - lists.teacher_BK
        # the mean over pairs of (e_p - e_n)^2, without the pairs: two variances and the distance of the means
        variance_B = _variance(error_BK, positive_BK) + _variance(error_BK, negative_BK)
        square_B = variance_B + _margin(error_BK, positive_BK, negative_BK).square()
        margins_B = (_margin(values_BK, positive_BK, negative_BK) for values_BK in (s_BK, lists.teacher_BK))
        num_lists, *means = _means(has_pair_B, *margins_B)
        logs = dict(zip(("num_lists", "margin", "teacher_margin"), (num_lists, *means), strict=True))
        return LossOutput(_mean_over_ranks(square_B, has_pair_B, num_lists), logs)


class _Lists(NamedTuple):
    """Every query's documents in a row of its own; 0 where there is no document, or no score."""

    similarity_BK: Float[Tensor, "B K"]
    teacher_BK: Float[Tensor, "B K"]
    is_positive_BK: Bool[Tensor, "B K"]
    is_scored_BK: Bool[Tensor, "B K"]

    @staticmethod
    def of(batch: EmbeddedBatch) -> "_Lists":
        groups, owner_N = batch.groups, batch.groups.owner_N.long()
        if groups.teacher_score_N is None:
            raise ValueError("a distillation loss got a batch whose groups have no teacher_score_N")
        count_B = owner_N.bincount(minlength=len(batch.query_BD))
        place_N = torch.arange(len(owner_N), device=owner_N.device) - (count_B.cumsum(0) - count_B)[owner_N]
        shape = (len(count_B), max([1, *count_B.tolist()]))
        similarity_N = dot_product(take_rows(batch.query_BD, owner_N), batch.document_ND)
        is_scored_N = groups.teacher_score_N.isfinite()
        teacher_N = groups.teacher_score_N.to(similarity_N.dtype).masked_fill(~is_scored_N, 0)
        columns = (similarity_N, teacher_N, groups.is_positive_N, is_scored_N)
        return _Lists(*(c.new_zeros(shape).index_put((owner_N, place_N), c) for c in columns))


def _mean(values_BK: Float[Tensor, "B K"], kept_BK: Bool[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """Of each row's kept values; 0 where it has none."""
    return values_BK.where(kept_BK, 0).sum(dim=1) / kept_BK.sum(dim=1).clamp_min(1)


def _variance(values_BK: Float[Tensor, "B K"], kept_BK: Bool[Tensor, "B K"]) -> Float[Tensor, " B"]:
    return _mean((values_BK - _mean(values_BK, kept_BK)[:, None]).square(), kept_BK)


def _margin(
    values_BK: Float[Tensor, "B K"], positive_BK: Bool[Tensor, "B K"], negative_BK: Bool[Tensor, "B K"]
) -> Float[Tensor, " B"]:
    return _mean(values_BK, positive_BK) - _mean(values_BK, negative_BK)


def _means(kept_B: Bool[Tensor, " B"], *values_B: Float[Tensor, " B"]) -> list[Tensor]:
    """How many queries of all ranks are kept, then the mean of every value over them. One collective."""
    sums = [value_B.where(kept_B, 0).sum() for value_B in values_B]
    count, *totals = sum_over_ranks(torch.stack([kept_B.sum().to(sums[0].dtype), *sums])).unbind()
    return [count, *(total / count.clamp_min(1) for total in totals)]


def _mean_over_ranks(
    loss_B: Float[Tensor, " B"], kept_B: Bool[Tensor, " B"], count: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """This rank's part, so that the mean over ranks is the mean over the kept queries of all of them."""
    return loss_B.where(kept_B, 0).sum() * world_size() / count.clamp_min(1)
