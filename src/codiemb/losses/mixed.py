"""Losses for batches that hold graded and ungraded queries side by side: each applies to one kind."""

from jaxtyping import Bool
from torch import Tensor, nn

from codiemb.batch import EmbeddedBatch
from codiemb.distributed import sum_over_ranks
from codiemb.losses.base import LossOutput, require_loss


class Graded(nn.Module):
    """A loss on the queries that have a scored document, and on their documents.

    The rest of the batch is not there for it, not even as negatives. A rank may hold no such query; where no
    rank does, the loss is a zero with a graph.

    Args:
        loss: any loss on an EmbeddedBatch.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = require_loss("loss", loss)

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
        self.loss = require_loss("loss", loss)

    def forward(self, batch: EmbeddedBatch) -> LossOutput:
        """The loss of the ungraded queries."""
        return _on(self.loss, batch, ~_is_graded(batch))


def _is_graded(batch: EmbeddedBatch) -> Bool[Tensor, " B"]:
    scored_N = batch.groups.score_N.isfinite()
    count_B = batch.groups.query_hash_B.new_zeros(len(batch.groups.query_hash_B))
    return count_B.index_add(0, batch.groups.owner_N.long(), scored_N.to(count_B.dtype)) > 0


def _on(loss: nn.Module, batch: EmbeddedBatch, kept_B: Bool[Tensor, " B"]) -> LossOutput:
    if sum_over_ranks(kept_B.sum()) == 0:  # all ranks agree, so none waits in a collective of the loss
        return LossOutput(_zero_with_graph(batch), {})
    output: LossOutput = loss(batch.of_queries(kept_B))
    # a loss in which this rank has no row may have lost the graph that a distributed strategy waits for
    return output._replace(value=output.value + _zero_with_graph(batch))


def _zero_with_graph(batch: EmbeddedBatch) -> Tensor:
    return (batch.query_BD.sum() + batch.document_ND.sum()) * 0
