"""What a step asks of torch.distributed, and what that takes on the wire.

The requests are compared with those of two ranks under gloo, strategy by strategy
(tests/strategy/test_same_update.py).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn

from codiemb.losses import (
    PRO,
    InfoNCE,
    Matryoshka,
    MidLayerInfoNCE,
    Pearson,
    RankKL,
    TokenPrediction,
    WeightedSum,
)
from experiments.scale.inputs import (
    CARDS_PER_HOST,
    NETWORK,
    NVLINK,
    TREE_BASE,
    TREE_NETWORK,
    TREE_NVLINK,
    Sizes,
)

BYTES = {"float32": 4, "bfloat16": 2, "int64": 8}
_COLUMNS = 6  # integers that travel with a document: owner, kind, order, and hashes


class Request(NamedTuple):
    """A collective, or several equal ones.

    Attributes:
        operation: all_reduce, all_gather or reduce_scatter; `weights_` before it where a strategy asks.
        dtype: of the numbers.
        numbers: of the whole tensor: what is reduced, or what a rank has after the gather.
    """

    operation: str
    dtype: str
    numbers: float
    times: int = 1

    @property
    def size(self) -> float:
        """In bytes, of all of them."""
        return self.times * self.numbers * BYTES[self.dtype]


def of_weights(strategy: str, sizes: Sizes, chunks: int, *, dtype: str) -> list[Request]:
    """What a strategy asks for gradients and weights, in an optimizer step of one micro-batch.

    FSDP2 gathers each layer for each chunk, in the forward pass and in the backward pass, where it is still
    there from computing the chunk again; what is in no layer once a step. ZeRO 1 and 2 reduce whole gradients
    to all ranks, each of which keeps its part. ZeRO 3 gathers at most for the forward pass of a chunk, for
    computing it again, and for its backward pass; less, where it has room to keep something.
    """
    number, layers = sizes.parameters, sizes.layers * sizes.layer
    if strategy == "ddp":
        return [Request("all_reduce", dtype, number)]
    if strategy == "fsdp":
        return [
            Request("weights_all_gather", dtype, number - layers),
            Request("weights_all_gather", dtype, sizes.layer, 2 * chunks * sizes.layers),
            Request("weights_reduce_scatter", dtype, number),
        ]
    if strategy == "deepspeed_zero3":
        return [
            Request("weights_all_gather", dtype, number, 3 * chunks - 1),
            Request("weights_reduce_scatter", dtype, number),
        ]
    return [Request("all_reduce", dtype, number), Request("weights_all_gather", dtype, number)]


def of_loss(loss: nn.Module, documents: Sequence[int], width: int) -> list[Request]:
    """What a loss asks, forward and backward, given each rank's number of documents.

    Raises:
        TypeError: a loss that no stage of youtu2b has.
    """
    return list(_of_loss(loss, documents, width))


def _of_loss(loss: nn.Module, documents: Sequence[int], width: int) -> Iterator[Request]:
    if isinstance(loss, WeightedSum):
        for term in loss.terms.values():
            yield from _of_loss(term, documents, width)
    elif isinstance(loss, Matryoshka):
        for narrower in loss.dims:
            yield from _of_loss(loss.loss, documents, narrower)
    elif isinstance(loss, InfoNCE | MidLayerInfoNCE):
        yield Request("all_reduce", "int64", 1)  # queries, or anchors
        yield from _gather("float32", documents, width, with_gradient=True)
        yield from _gather("int64", documents, _COLUMNS)
        yield Request("all_reduce", "float32", 7)  # logged
    elif isinstance(loss, Pearson | RankKL | PRO):
        yield from _gather("float32", documents, 2, with_gradient=True)
    elif isinstance(loss, TokenPrediction):
        yield Request("all_reduce", "float32", 4)
    else:
        raise TypeError(f"what {type(loss).__name__} asks of other ranks is not known here")


def _gather(
    dtype: str, rows: Sequence[int], columns: int, *, with_gradient: bool = False
) -> Iterator[Request]:
    """gather_rows: counts, rows filled up to the longest rank's, the sum of gradients."""
    yield Request("all_reduce", "int64", len(rows))
    yield Request("all_gather", dtype, len(rows) * max(rows) * columns)
    if with_gradient:
        yield Request("all_reduce", dtype, sum(rows) * columns)


def received(requests: Sequence[Request], ranks: int) -> float:
    """Bytes that a rank receives: (W - 1) / W of the whole tensor; a ring goes round twice to reduce it."""
    twice = {request: 2 if request.operation.endswith("all_reduce") else 1 for request in requests}
    return (ranks - 1) / ranks * sum(twice[request] * request.size for request in requests)


def seconds(requests: Sequence[Request], ranks: int) -> float:
    """At the full rate of the slowest link."""
    rate = NVLINK if ranks <= CARDS_PER_HOST.value else NETWORK
    return received(requests, ranks) / rate.value


def least_seconds(ranks: int) -> float:
    """Of an all-reduce of a few bytes, by NCCL's own model of its tree."""
    per_host = min(ranks, int(CARDS_PER_HOST.value))
    hosts = ranks / per_host
    steps = (per_host - 1) * TREE_NVLINK.value + math.log2(hosts) * TREE_NETWORK.value
    return TREE_BASE.value + 2 * steps
