"""InfoNCE over ragged groups, negatives of all ranks, false negatives masked."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from codiemb.batch import EmbeddedBatch
from codiemb.losses.base import LossOutput, full_precision, require_positive
from codiemb.losses.contrast import Contrast, contrast
from codiemb.losses.masks import Documents, Queries
from codiemb.losses.rows import Pairs, RowBuilder


class PairLosses(NamedTuple):
    """One entry for each of the P (query, positive) pairs of this rank."""

    loss_P: Float[Tensor, " P"]
    owner_P: Int[Tensor, " P"]
    logs: dict[str, Tensor]


class InfoNCE(nn.Module):
    """Contrastive loss of every (query, positive) pair against the global batch.

        L = (1/B) sum_i (1/P_i) sum_m  -log  exp(s(q_i, d+_im) / temperature) / Z_im
        Z_im = exp(s(q_i, d+_im) / temperature) + sum over negatives d of exp(s(q_i, d) / temperature)

    s is the dot product of normalised embeddings. The negatives of q_i are the hard negatives of all queries
    and the positives of the other queries, on all ranks; never its own other positives. The value is the mean
    over this rank's queries: B is equal on all ranks, so the mean over ranks is the global loss.

    Args:
        temperature: divides similarities.
        other_positives: "all" positives of the other queries are negatives, or "aligned": the m-th positive
            of a query meets only the m-th of each other query (modulo their number), as the CoDiEmb trainer
            does.
        chunk_rows: rows of logits held at once; memory is chunk_rows x M.
        mask_false_negatives: a text that the global batch itself calls a positive of the query (same content
            hash, under this query or under another query of the same text), or the query's own text, is no
            negative.
        margin_absolute: a negative above s(q_i, d+_im) - margin_absolute is masked too.
        margin_percent: a negative above s(q_i, d+_im) * margin_percent is masked too (as in NV-Retriever,
            arXiv 2407.15831).
        in_batch: False leaves each query only its own hard negatives (classification labels, reranking
            lists).
        symmetric: average with the direction from positives to all queries.
        query_query: other queries join the denominators (with `document_document`: GTE, arXiv 2308.03281).
        document_document: the positive's similarity to the row's negative documents joins the denominators.

    With one positive, "aligned" and all options off this is the InfoNCE of DPR and SimCSE, and equals
    MultipleNegativesRankingLoss of sentence-transformers at scale 1 / temperature.
    Source: arXiv 1807.03748; with several positives, arXiv 2508.11442.
    """

    def __init__(
        self,
        temperature: float = 0.02,
        other_positives: Literal["all", "aligned"] = "all",
        chunk_rows: int = 512,
        mask_false_negatives: bool = True,
        margin_absolute: float | None = None,
        margin_percent: float | None = None,
        in_batch: bool = True,
        symmetric: bool = False,
        query_query: bool = False,
        document_document: bool = False,
    ) -> None:
        super().__init__()
        if other_positives not in ("all", "aligned"):
            raise ValueError(f'other_positives must be "all" or "aligned", got {other_positives!r}')
        if not in_batch and (symmetric or query_query):
            raise ValueError("symmetric and query_query compare with other queries: they need in_batch=True")
        self.temperature = require_positive("temperature", temperature)
        self.aligned = other_positives == "aligned"
        self.chunk_rows = int(require_positive("chunk_rows", chunk_rows))
        self.mask_false_negatives = mask_false_negatives
        self.margin_absolute = margin_absolute
        self.margin_percent = margin_percent
        self.in_batch = in_batch
        self.symmetric = symmetric
        self.query_query = query_query
        self.document_document = document_document

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of this rank's queries against the documents of all ranks."""
        pairs = self.pair_losses(batch)
        num_queries = batch.query_BD.shape[0]
        num_positives_P = pairs.owner_P.bincount(minlength=num_queries)[pairs.owner_P]
        return LossOutput((pairs.loss_P / num_positives_P).sum() / num_queries, pairs.logs)

    def pair_losses(self, batch: EmbeddedBatch) -> PairLosses:
        """-log exp(s_im / temperature) / Z_im of each pair, in the order of the positives in the batch."""
        # every collective comes first: ranks must run the same ones, whatever their pairs
        local = Documents.local(batch)
        documents = local.gathered() if self.in_batch else local
        queries = Queries.gathered(batch) if self.symmetric or self.query_query else None
        pairs = Pairs.of(batch, local)
        rows = RowBuilder(
            batch,
            pairs,
            documents,
            queries,
            aligned=self.aligned,
            in_batch=self.in_batch,
            mask_false_negatives=self.mask_false_negatives,
        )
        ceiling_P = self._ceiling(pairs.similarity_P.detach())
        # one row a query serves all its positives, unless a pair has something of its own in the denominator
        per_pair = self.aligned or self.document_document or ceiling_P is not None
        row_P = torch.arange(len(pairs.owner_P), device=pairs.owner_P.device) if per_pair else pairs.owner_P
        blocks = rows.forward_blocks(
            per_pair=per_pair, query_query=self.query_query, document_document=self.document_document
        )
        negatives = contrast(blocks, self.temperature, self.chunk_rows, ceiling_P)
        logit_P = pairs.similarity_P / self.temperature
        loss_P = softplus(negatives.logsumexp_R[row_P] - logit_P)
        if self.symmetric:
            queries_R = contrast(rows.backward_blocks(), self.temperature, self.chunk_rows, ceiling_P)
            loss_P = (loss_P + softplus(queries_R.logsumexp_R - logit_P)) / 2
        return PairLosses(loss_P, pairs.owner_P, _logs(negatives, pairs.similarity_P.detach(), row_P))

    def _ceiling(self, similarity_P: Float[Tensor, " P"]) -> Float[Tensor, " P"] | None:
        """The similarity above which a negative of a pair counts as a false one."""
        ceilings = []
        if self.margin_absolute is not None:
            ceilings.append(similarity_P - self.margin_absolute)
        if self.margin_percent is not None:
            ceilings.append(similarity_P * self.margin_percent)
        return torch.stack(ceilings).amin(dim=0) if ceilings else None


def _logs(
    negatives: Contrast, similarity_P: Float[Tensor, " P"], row_P: Int[Tensor, " P"]
) -> dict[str, Tensor]:
    hardest_P = negatives.hardest_R[row_P]
    has_negative_P = hardest_P > -torch.inf
    num_pairs = similarity_P.new_tensor(max(len(similarity_P), 1))
    num_eligible, num_kept = negatives.num_eligible_R.sum(), negatives.num_kept_R.sum()
    return {
        "masked_share": (num_eligible - num_kept) / num_eligible.clamp_min(1),
        "positive_similarity": similarity_P.sum() / num_pairs,
        # over the pairs that have a negative; 0 if none has
        "hardest_negative_similarity": hardest_P.where(has_negative_P, 0).sum()
        / has_negative_P.sum().clamp_min(1),
        "accuracy@1": (similarity_P > hardest_P).sum() / num_pairs,
    }
