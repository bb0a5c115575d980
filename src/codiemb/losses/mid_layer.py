"""InfoNCE on the middle layer, for graded pairs whose score says they are equivalent."""

import torch
from torch import nn

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import sum_over_ranks, world_size
from codiemb.losses.base import LossOutput, full_precision, is_number
from codiemb.losses.info_nce import InfoNCE


class MidLayerInfoNCE(nn.Module):
    """InfoNCE of the middle layer's embeddings, anchored on the pairs with score >= min_score.

        L = (1/A) sum over anchors a  -log  exp(s_a / temperature) / Z_a

    A is the number of anchors of the global batch and s_a = <middle query, middle document> of pair a. Z_a is
    over all documents of the global batch, whatever their score, except the other anchors of the same query.
    Ranks may hold different numbers of anchors: a rank's value is its sum times world size / A, so that the
    mean over ranks is L. Without any anchor the value is a zero with a graph.

    The same as InfoNCE with "is positive" read as "score >= min_score". Scores must be normalised to [0, 1].
    Source: MidNCE of CoDiEmb, arXiv 2508.11442.

    Args:
        temperature: divides similarities.
        min_score: pairs of this score or above are anchors; in [0, 1], as scores are.
        mask_false_negatives: as in InfoNCE: what the batch itself calls a positive of a query is no negative.
        chunk_rows: rows of logits held at once; memory is chunk_rows x M.
    """

    def __init__(
        self,
        temperature: float | int = 0.02,
        min_score: float | int = 1.0,
        mask_false_negatives: bool = True,
        chunk_rows: int = 512,
    ) -> None:
        super().__init__()
        self.info_nce = InfoNCE(temperature, chunk_rows=chunk_rows, mask_false_negatives=mask_false_negatives)
        if not (is_number(min_score) and 0 <= min_score <= 1):
            raise ValueError(f"min_score must be in 0..1, as scores are, got {min_score!r}")
        self.min_score = float(min_score)

    @full_precision
    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of this rank's anchors against the documents of all ranks."""
        if batch.middle_query_BD is None or batch.middle_document_ND is None:
            raise ValueError(
                "MidLayerInfoNCE needs embeddings of a middle layer and the batch has none: "
                "set `middle_layer` on the encoder, or drop this loss"
            )
        anchors_N = batch.groups.score_N >= self.min_score  # False where the score is NaN
        num_anchors = sum_over_ranks(anchors_N.sum())
        middle = batch._replace(
            query_BD=batch.middle_query_BD,
            document_ND=batch.middle_document_ND,
            groups=batch.groups._replace(is_positive_N=anchors_N, in_batch=True),
        )
        weight = world_size() / num_anchors.clamp_min(1).to(batch.middle_query_BD.dtype)
        pairs = self.info_nce.pair_losses(middle, weight.expand(len(anchors_N)))
        logs = {**pairs.logs, "num_anchors": num_anchors.to(torch.float32)}
        return LossOutput(pairs.weighted_sum, logs)
