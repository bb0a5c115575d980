"""Tokens, floating-point operations and memory of one optimizer step on one card.

Each formula is compared with a counter: operations with torch's flop counter, what the backward pass keeps
with saved_tensors_hooks, the peak with every tensor that lives (tests/experiments/test_scale.py) and with the
peaks of an H100 (experiments/benchmarks/gpu_step.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from torch import nn

from codiemb.config.schema import TrainConfig
from codiemb.data.collator import TaskSpec
from codiemb.losses import InfoNCE, MidLayerInfoNCE, TokenPrediction
from experiments.scale.inputs import BUCKET, MEDIAN_TOKENS, SPREAD, Sizes

STRATEGIES = ("ddp", "fsdp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3")


class Tokens(NamedTuple):
    """Tokens of some texts, and their squared lengths, which attention costs."""

    total: float
    squares: float

    @staticmethod
    def of(lengths: Sequence[int]) -> "Tokens":
        """Of texts of these lengths."""
        return Tokens(sum(lengths), sum(length**2 for length in lengths))


def expected_tokens(texts: float, longest: int) -> Tokens:
    """Of texts whose lengths are log-normal (MEDIAN_TOKENS, SPREAD) and cut at `longest`."""
    normal, spread = NormalDist(math.log(MEDIAN_TOKENS.value), SPREAD.value), SPREAD.value

    def moment(k: int) -> float:
        below = NormalDist(normal.mean + k * spread**2, spread).cdf(math.log(longest))
        whole = math.exp(k * normal.mean + (k * spread) ** 2 / 2)
        return whole * below + longest**k * (1 - normal.cdf(math.log(longest)))

    return Tokens(texts * moment(1), texts * moment(2))


@dataclass(frozen=True)
class Step:
    """One optimizer step of a task, as one card of several sees it. Identical texts count twice."""

    task: str
    cards: int
    queries: int  # on this card, raw texts in lm
    documents: int  # on this card
    pairs: int  # of a query and a positive, on this card
    tokens: Tokens  # on this card
    predicted: float  # tokens whose successor or mask is predicted, on this card
    budget: int  # tokens of a chunk, at most

    @property
    def chunks(self) -> int:
        """Forward passes of the encoder, at least: a text is not cut."""
        return math.ceil(self.tokens.total / self.budget)

    @property
    def chunk_tokens(self) -> float:
        """Tokens of the largest chunk."""
        return min(self.tokens.total, self.budget)


def step(cfg: TrainConfig, task: str, cards: int, batch: int | None = None) -> Step:
    """The task's step; a batch that the cards do not divide is rounded up, which a run would refuse."""
    spec = cfg.tasks[task]
    queries = math.ceil((batch or spec.global_batch_size) / cards)
    budget = cfg.encoder.max_tokens_per_chunk
    assert budget is not None, "youtu2b's stages run in chunks"
    if task == "lm":
        windows = queries * (spec.num_windows or 1)
        tokens = Tokens.of([spec.max_document_tokens] * windows)
        predicted = (spec.mask_share or 1) * tokens.total
        return Step(task, cards, queries, windows, 0, tokens, predicted, budget)
    positives, documents = _documents(spec)
    tokens = expected_tokens(queries * (1 + documents), spec.max_document_tokens)
    return Step(task, cards, queries, queries * documents, queries * positives, tokens, 0, budget)


def _documents(spec: TaskSpec) -> tuple[int, int]:
    assert spec.num_positives is not None
    assert spec.num_negatives is not None
    return spec.num_positives, spec.num_positives + spec.num_negatives


@dataclass(frozen=True)
class Products:
    """Numbers that every token is multiplied with, and those of attention for each pair of tokens."""

    trained: int
    frozen: int
    attention: int  # layers x heads x (width of a query + width of a value)

    @classmethod
    def of(cls, model: nn.Module, layers: int, heads: int, query_width: int, value_width: int) -> "Products":
        """Of a transformer: its matrices but for embeddings, which are looked up."""
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [p for p in model.parameters() if p.dim() == 2 and id(p) not in tables]
        return cls(
            sum(p.numel() for p in matrices if p.requires_grad),
            sum(p.numel() for p in matrices if not p.requires_grad),
            layers * heads * (query_width + value_width),
        )

    @classmethod
    def all_trained(cls, sizes: Sizes) -> "Products":
        """Of full training."""
        heads = sizes.layers * sizes.heads
        return cls(sizes.matrices, 0, heads * (sizes.query_width + sizes.value_width))

    def forward(self, tokens: Tokens) -> float:
        """Operations: two for each number."""
        return 2.0 * (self.trained + self.frozen) * tokens.total + 2.0 * self.attention * tokens.squares

    def train(self, tokens: Tokens) -> float:
        """Forward, the gradient of the states as much again, and that of trained weights; nothing twice."""
        weights = (6.0 * self.trained + 4.0 * self.frozen) * tokens.total
        return weights + 6.0 * self.attention * tokens.squares


def recomputed(products: Products, at: Step) -> float:
    """Operations that chunks repeat: the forward pass of all but the last."""
    return products.forward(at.tokens) * (at.chunks - 1) / at.chunks


def loss_flops(loss: nn.Module, at: Step, sizes: Sizes) -> float:
    """Three products of rows x candidates x width, gradient included; sums of lists cost none.

    Every pair counts as an anchor of the middle layer, which takes those of the highest score only.
    """
    if isinstance(loss, TokenPrediction):
        return 6.0 * at.predicted * sizes.vocabulary * sizes.width
    if isinstance(loss, InfoNCE):
        rows = at.pairs if loss.aligned else at.queries
        return 6.0 * rows * at.documents * at.cards * sizes.width
    return loss_flops(loss.info_nce, at, sizes) if isinstance(loss, MidLayerInfoNCE) else 0.0


def kept_bytes(sizes: Sizes, *, mixed: bool) -> float:
    """What the backward pass keeps of a token, in bytes: activations, with the variable-length kernel.

    In bf16: gate, its SiLU, up, their product; the inputs of the other matrices; query, key, value and output
    of attention, all as wide as the widest of them. In fp32: the input of each norm and what it has made of
    it. Under autocast (`mixed`) the residual stream is fp32, and each matrix casts its input for itself.
    """
    attended = 8 * sizes.heads * max(sizes.query_width, sizes.value_width) + 4 * sizes.heads
    low_rank = 8 * sizes.ranks
    norms = (24 if mixed else 16) * sizes.width + 4 * 4
    output = 2 * sizes.heads * sizes.value_width
    layer = 8 * sizes.intermediate + norms + low_rank + attended + output
    last_norm = (8 if mixed else 6) * sizes.width + 4
    positions = 8 + 2 * sizes.rotary_width * (4 if mixed else 2)  # ids, cosines, sines
    return sizes.layers * layer + last_norm + positions


@dataclass(frozen=True)
class Memory:
    """Bytes on one card at the moment of a step that takes most."""

    weights: float
    gradients: float
    optimizer: float
    copies: float  # in bf16 under autocast, gathered by a strategy, or in its buckets
    activations: float
    loss: float

    @property
    def total(self) -> float:
        """All of it; the allocator's gaps, CUDA and NCCL come on top."""
        return sum(vars(self).values())


def peak(
    strategy: str, sizes: Sizes, at: Step, loss: float = 0.0, *, casts_are_cached: bool = False
) -> Memory:
    """While a chunk is computed again, or (one chunk) at the end of the forward pass; or at the update.

    A weight that several chunks share gets its gradient when the last of them is done (the first of the
    batch). Until then autograd holds the sum: whole, whatever the strategy, and in fp32 under autocast, or in
    bf16 where autocast caches its casts, so that all chunks share one (torch's default, but not Lightning's).
    """
    mixed = strategy in ("ddp", "fsdp")
    sums = (4 if mixed else 2) * sizes.parameters - (2 * sizes.matrices if casts_are_cached else 0)
    weights, _, optimizer = _held(strategy, sizes, at.cards)
    backward = Memory(
        weights=weights,
        gradients=sums if at.chunks > 1 else 0,
        optimizer=optimizer,
        copies=_copies(strategy, sizes, at.cards),
        activations=kept_bytes(sizes, mixed=mixed) * at.chunk_tokens,
        loss=loss,
    )
    return max(backward, _update(strategy, sizes, at.cards), key=lambda memory: memory.total)


def _update(strategy: str, sizes: Sizes, cards: int) -> Memory:
    weights, gradients, optimizer = _held(strategy, sizes, cards)
    buckets = _buckets(strategy, sizes, cards)
    return Memory(weights, gradients, optimizer, buckets, 0, 0)


def _held(strategy: str, sizes: Sizes, cards: int) -> tuple[float, float, float]:
    """Weights, gradients, AdamW at the update: fp32 under ddp and fsdp; else bf16, with fp32 copies."""
    number, shard = sizes.parameters, sizes.parameters / cards
    if strategy == "ddp":
        return 4 * number, 4 * number, 8 * number
    if strategy == "fsdp":
        return 4 * shard, 4 * shard, 8 * shard
    return 2 * (shard if strategy == "deepspeed_zero3" else number), (2 + 4) * shard, 12 * shard


def _buckets(strategy: str, sizes: Sizes, cards: int) -> float:
    if cards == 1 and strategy in ("ddp", "fsdp"):
        return 0
    if strategy.startswith("deepspeed"):
        return 2 * BUCKET.value  # made anew in each backward pass, whatever the model's size
    return 4 * sizes.parameters if strategy == "ddp" else 0


def _copies(strategy: str, sizes: Sizes, cards: int) -> float:
    """Autocast's bf16 weights; the layers that are gathered, two at a time, and what is in none of them."""
    outside = sizes.parameters - sizes.layers * sizes.layer
    gathered = {"fsdp": 4, "deepspeed_zero3": 2}.get(strategy, 0) * (outside + 2 * sizes.layer)
    cast = 2 * sizes.matrices if strategy in ("ddp", "fsdp") else 0
    return _buckets(strategy, sizes, cards) + cast + (gathered if cards > 1 else 0)


def gather_bytes(at: Step, sizes: Sizes, chunk_rows: int) -> float:
    """What InfoNCE holds in the backward pass: the documents of all ranks, their gradient and its sum.

    Beside them a chunk of logits; both in fp32.
    """
    documents = at.documents * at.cards
    return 4.0 * documents * (3 * sizes.width + chunk_rows)
