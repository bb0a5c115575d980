"""Losses for batches that hold graded and ungraded queries side by side: each applies to one kind."""

from jaxtyping import Bool
from torch import Tensor, nn

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import sum_over_ranks
from codiemb.losses.base import LossOutput


class Graded(nn.Module):
    """A loss on the queries that have a scored document, and on their documents.

    The rest of the batch is not there for it, not even as negatives. A rank may hold no such query; where no
    rank does, the loss is a zero with a graph.

    Args:
        loss: any loss on an EmbeddedBatch.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of the graded queries."""
        return _on(self.loss, batch, _is_graded(batch))


class Ungraded(nn.Module):
    """A loss on the queries without a scored document, and on their documents; the rest as in Graded.

    Args:
        loss: any loss on an EmbeddedBatch.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of the ungraded queries."""
        return _on(self.loss, batch, ~_is_graded(batch))


def _is_graded(batch: EmbeddedBatch) -> Bool[Tensor, " B"]:
    scored_N = batch.document_score_N.isfinite()
    count_B = batch.query_hash_B.new_zeros(len(batch.query_hash_B))
    return count_B.index_add(0, batch.document_owner_N.long(), scored_N.to(count_B.dtype)) > 0


def _on(loss: nn.Module, batch: EmbeddedBatch, kept_B: Bool[Tensor, " B"]) -> LossOutput:
    if sum_over_ranks(kept_B.sum()) == 0:  # all ranks agree, so none waits in a collective of the loss
        return LossOutput(_zero_with_graph(batch), {})
    output: LossOutput = loss(_queries(batch, kept_B))
    # a loss in which this rank has no row may have lost the graph that a distributed strategy waits for
    return output._replace(value=output.value + _zero_with_graph(batch))


def _zero_with_graph(batch: EmbeddedBatch) -> Tensor:
    return (batch.query_BD.sum() + batch.document_ND.sum()) * 0


def _queries(batch: EmbeddedBatch, kept_B: Bool[Tensor, " B"]) -> EmbeddedBatch:
    """The batch without the other queries and their documents."""
    owner_N = batch.document_owner_N.long()
    kept_N = kept_B[owner_N]
    middle_query_BD, middle_document_ND = batch.middle_query_BD, batch.middle_document_ND
    return EmbeddedBatch(
        query_BD=batch.query_BD[kept_B],
        document_ND=batch.document_ND[kept_N],
        document_owner_N=(kept_B.cumsum(0) - 1)[owner_N[kept_N]].to(batch.document_owner_N.dtype),
        document_is_positive_N=batch.document_is_positive_N[kept_N],
        document_score_N=batch.document_score_N[kept_N],
        query_hash_B=batch.query_hash_B[kept_B],
        document_hash_N=batch.document_hash_N[kept_N],
        middle_query_BD=None if middle_query_BD is None else middle_query_BD[kept_B],
        middle_document_ND=None if middle_document_ND is None else middle_document_ND[kept_N],
        in_batch=batch.in_batch,
    )
