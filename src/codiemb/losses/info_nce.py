"""InfoNCE over ragged groups, negatives of all ranks, false negatives masked.

For one rank and one positive a query it is cross_entropy(query @ documents.T / temperature, positive). What
that leaves out, in reading order: `masks.py` says which documents are no negatives of a query, `rows.py`
turns that into the rows of logits that a pair of query and positive needs, and `contrast.py` computes their
cross-entropies and gradients in chunks.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import gather_rows, sum_over_ranks, world_size
from codiemb.losses.base import (
    LossOutput,
    full_precision,
    is_number,
    require_count,
    require_flag,
    require_positive,
)
from codiemb.losses.contrast import Contrast, Direction, Margins, Pairs, Seen
from codiemb.losses.masks import Documents, Queries, rows_of_lower_ranks
from codiemb.losses.rows import RowBuilder


class PairLosses(NamedTuple):
    """The weighted sum over the P (query, positive) pairs of this rank; only it has a gradient."""

    weighted_sum: Float[Tensor, ""]
    loss_P: Float[Tensor, " P"]
    owner_P: Int[Tensor, " P"]
    logs: dict[str, Tensor]


class InfoNCE(nn.Module):
    """Contrastive loss of every (query, positive) pair against the global batch.

        L = (1/B) sum_i (1/P_i) sum_m  -log  exp(s(q_i, d+_im) / temperature) / Z_im
        Z_im = exp(s(q_i, d+_im) / temperature) + sum over negatives d of exp(s(q_i, d) / temperature)

    s is the dot product of normalised embeddings. The negatives of q_i are the hard negatives of all queries
    and the positives of the other queries, on all ranks; never its own other positives. B is the mean number
    of queries of a rank, so that the mean of the value over ranks is the global loss, however they share the
    queries (a rank may have none).

    Args:
        temperature: divides similarities.
        other_positives: "all" positives of the other queries are negatives, or "aligned": the m-th positive
            of a query meets only the m-th of each other query (modulo their number), as the CoDiEmb trainer
            does.
        chunk_rows: rows of logits held at once; memory is chunk_rows x M.
        mask_false_negatives: a text that the global batch itself calls a positive of the query (same content
            hash, under this query or under another query of the same text), or the query's own text, is no
            negative.
        margin_absolute: a negative above s(q_i, d+_im) - margin_absolute is masked too. Between -2 and 2, as
            far as two similarities can be apart; below 0 negatives may be that much nearer than the positive.
        margin_percent: a negative above s(q_i, d+_im) * margin_percent is masked too (as in NV-Retriever,
            arXiv 2407.15831: 0.95 is its 95 %). Above 0, at most 1. For a negative s, of which the paper says
            nothing, the limit is as far below s: s - (1 - margin_percent) * |s|.
        in_batch: False leaves each query only its own hard negatives (classification labels, reranking
            lists). So does a batch that says so, whatever the options below: its source is one of those.
        symmetric: average with the direction from positives to all queries.
        query_query: s(q_i, q_j) of other queries joins the denominators.
        document_document: s(d, d+_im) of the row's negatives d joins the denominators.
        document_query: s(q_j, d+_im) of other queries joins the denominators.
        positive_twice: the positive counts twice in its denominator; for GTE, beside `document_query`.

    The last four together are GTE's improved contrastive loss (arXiv 2308.03281), whose sum over s(q_j, d_i)
    does not leave out j = i: hence the second positive, without which the loss is lower by up to log 2.
    Without hard negatives it equals the four directions of MultipleNegativesRankingLoss in one partition;
    with them, that leaves the query's own ones out of the similarities between documents.

    With one positive, "aligned" and all options off this is the InfoNCE of DPR and SimCSE, and equals
    MultipleNegativesRankingLoss of sentence-transformers at scale 1 / temperature.
    Source: arXiv 1807.03748; with several positives, arXiv 2508.11442.
    """

    def __init__(
        self,
        temperature: float | int = 0.02,
        other_positives: Literal["all", "aligned"] = "all",
        chunk_rows: int = 512,
        mask_false_negatives: bool = True,
        margin_absolute: float | int | None = None,
        margin_percent: float | int | None = None,
        in_batch: bool = True,
        symmetric: bool = False,
        query_query: bool = False,
        document_document: bool = False,
        document_query: bool = False,
        positive_twice: bool = False,
    ) -> None:
        super().__init__()
        if other_positives not in ("all", "aligned"):
            raise ValueError(f'other_positives must be "all" or "aligned", got {other_positives!r}')
        self.temperature = require_positive("temperature", temperature)
        self.aligned = other_positives == "aligned"
        self.chunk_rows = require_count("chunk_rows", chunk_rows)
        self.mask_false_negatives = require_flag("mask_false_negatives", mask_false_negatives)
        self.margins = Margins(_absolute(margin_absolute), _percent(margin_percent))
        self.in_batch = require_flag("in_batch", in_batch)
        self.symmetric = require_flag("symmetric", symmetric)
        self.query_query = require_flag("query_query", query_query)
        self.document_document = require_flag("document_document", document_document)
        self.document_query = require_flag("document_query", document_query)
        self.positive_twice = require_flag("positive_twice", positive_twice)
        if self._meets_queries and not in_batch:
            raise ValueError(
                "symmetric, query_query and document_query meet other queries: they need in_batch=True"
            )
        if positive_twice and not document_query:
            raise ValueError(
                "positive_twice belongs to the sum over s(q_j, d_i): it needs document_query=True"
            )

    @property
    def _meets_queries(self) -> bool:
        return self.symmetric or self.query_query or self.document_query

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of this rank's queries against the documents of all ranks."""
        owner_N, num_queries = batch.groups.owner_N.long(), len(batch.query_BD)
        mean_queries = sum_over_ranks(owner_N.new_tensor(num_queries)) / world_size()
        num_positives_B = owner_N[batch.groups.is_positive_N].bincount(minlength=num_queries)
        # a query's pairs share its weight, 1 / B of the global batch however ranks share the queries
        share_N = 1 / (mean_queries * num_positives_B[owner_N]).to(batch.query_BD.dtype)
        pairs = self.pair_losses(batch, share_N)
        return LossOutput(pairs.weighted_sum, pairs.logs)

    def pair_losses(self, batch: EmbeddedBatch, weight_N: Float[Tensor, " N"]) -> PairLosses:
        """-log exp(s_im / temperature) / Z_im of each pair, in the order of the positives in the batch.

        `weight_N` weighs the pairs by their positives; where a document is none it has no effect.
        """
        # collectives, here and for the logs, are the same on all ranks, whatever their pairs
        documents, queries = Documents.local(batch), Queries.local(batch)
        in_batch = self.in_batch and batch.groups.in_batch
        if in_batch:
            documents = documents.gathered()
            positive_text_E2 = documents.positive_texts()
        else:
            positive_text_E2 = gather_rows(documents.positive_texts())
        if in_batch and self._meets_queries:
            queries = queries.gathered()
        positive_P = batch.groups.is_positive_N.nonzero().squeeze(1)
        pairs = Pairs(
            query_P=batch.groups.owner_N[positive_P].long() + rows_of_lower_ranks(queries.number_Q),
            positive_P=positive_P + rows_of_lower_ranks(documents.owner_M),
            weight_P=weight_N[positive_P],
        )
        rows = RowBuilder(
            documents,
            queries,
            pairs.query_P,
            pairs.positive_P,
            positive_text_E2,
            aligned=self.aligned,
            in_batch=in_batch,
            mask_false_negatives=self.mask_false_negatives,
        )
        directions = self._directions(rows)
        contrast = Contrast(pairs, directions, self.temperature, self.margins, self.chunk_rows)
        value, seen = contrast.sum({"query": queries.embedding_QD, "document": documents.embedding_MD})
        return PairLosses(value, seen.loss_P, batch.groups.owner_N[positive_P], _logs(seen))

    def _directions(self, rows: RowBuilder) -> list[Direction]:
        # one row a query serves all its positives, unless a pair has something of its own in the denominator
        has_margin = self.margins != Margins(None, None)
        document_query = self.document_query and rows.in_batch
        forward = rows.forward(
            per_pair=self.aligned or self.document_document or document_query or has_margin,
            query_query=self.query_query and rows.in_batch,
            document_document=self.document_document,
            document_query=document_query,
            times_positive=2 if self.positive_twice and rows.in_batch else 1,
        )
        return [forward, rows.backward()] if self.symmetric and rows.in_batch else [forward]


def _absolute(value: object) -> float | None:
    if value is None or (is_number(value) and -2 < value < 2):
        return None if value is None else float(value)
    raise ValueError(f"margin_absolute must be a difference of similarities, between -2 and 2, got {value!r}")


def _percent(value: object) -> float | None:
    if value is None or (is_number(value) and 0 < value <= 1):
        return None if value is None else float(value)
    raise ValueError(f"margin_percent must be a share above 0 and at most 1 (0.95 is 95 %), got {value!r}")


def _logs(seen: Seen) -> dict[str, Tensor]:
    """Means over the pairs of all ranks, which may hold different numbers of them; 0 where there are none."""
    has_negative_P = seen.hardest_P > -torch.inf
    sums = [
        seen.num_eligible - seen.num_kept,
        seen.num_eligible,
        seen.similarity_P.sum(),
        (seen.similarity_P > seen.hardest_P).sum(),
        has_negative_P.new_tensor(len(has_negative_P), dtype=seen.loss_P.dtype),
        seen.hardest_P.where(has_negative_P, 0).sum(),
        has_negative_P.sum(),
    ]
    total = sum_over_ranks(torch.stack([each.to(seen.loss_P.dtype) for each in sums]))
    masked, eligible, similarity, right, pairs, hardest, with_negative = total.unbind()
    return {
        "masked_share": masked / eligible.clamp_min(1),
        "positive_similarity": similarity / pairs.clamp_min(1),
        "hardest_negative_similarity": hardest / with_negative.clamp_min(1),
        "accuracy@1": right / pairs.clamp_min(1),
    }
