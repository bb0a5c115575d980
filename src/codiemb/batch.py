"""The nouns that every other file speaks: a packed ragged batch, and the same batch once embedded.

Shape letters, used as suffixes all over the package (the one legend):
    B queries on this rank     N documents on this rank     M documents on all ranks
    S sequences (unique texts) T packed tokens              D embedding width
    P predicted tokens         V vocabulary                 (language-model batches)
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class PackedTexts(NamedTuple):
    """S texts as one token stream without padding.

    `sequence_lengths` stay Python integers: attention groups sequences by length on the host, and a device
    tensor would cost one synchronisation per layer.
    """

    input_ids_T: Int[Tensor, " T"]
    sequence_lengths: tuple[int, ...]  # S entries, tokens; they add up to T
    prompt_lengths: tuple[int, ...]  # S entries, leading tokens that are attended to but not pooled


class Batch(NamedTuple):
    """One single-task batch of one rank, before encoding.

    Groups are ragged: a query owns 1..n positives and 0..n hard negatives, nothing is repeated to fill a
    rectangle. Identical texts share one sequence, so `query_sequence_B` and `document_sequence_N` point into
    `texts` and may repeat.
    """

    task: str
    source: str
    texts: PackedTexts
    query_sequence_B: Int[Tensor, " B"]  # the sequence that holds each query
    document_sequence_N: Int[Tensor, " N"]  # the sequence that holds each document
    document_owner_N: Int[Tensor, " N"]  # the query (0..B-1) that brought each document, ascending
    document_is_positive_N: Bool[Tensor, " N"]  # positive, or hard negative
    document_score_N: Float[Tensor, " N"]  # gold score in [0, 1]; NaN where the record gives none
    query_hash_B: Int[Tensor, " B"]  # 64-bit hash of the normalised text, without its prompt
    document_hash_N: Int[Tensor, " N"]
    in_batch: bool = True  # whether another query's documents may be taken as negatives


class LanguageBatch(NamedTuple):
    """A batch of the language-model task of one rank: raw text, some tokens of which are to be predicted.

    Documents, or windows of long ones, are the sequences of the stream, so attention stays inside each. The
    state at `predictor_P` predicts `target_P`: the token that follows it (all of them in a causal model, the
    masked ones in MNTP), or the one that a mask hides in its place (MLM).
    With `from_embedding` the embedding of the predictor's sequence predicts a token left out of it.
    """

    task: str
    source: str
    texts: PackedTexts
    predictor_P: Int[Tensor, " P"]  # places in the stream, 0..T-1
    target_P: Int[Tensor, " P"]  # token ids, before masking
    mean_targets: float  # predicted tokens of this rank per micro-batch, averaged over the optimizer step
    from_embedding: bool = False


AnyBatch = Batch | LanguageBatch


class EmbeddedBatch(NamedTuple):
    """What a loss sees: embeddings and the structure of the batch, never a model.

    Embeddings are fp32 and L2-normalised. The middle-layer pair is None unless the encoder was asked for it.
    """

    query_BD: Float[Tensor, "B D"]
    document_ND: Float[Tensor, "N D"]
    document_owner_N: Int[Tensor, " N"]
    document_is_positive_N: Bool[Tensor, " N"]
    document_score_N: Float[Tensor, " N"]
    query_hash_B: Int[Tensor, " B"]
    document_hash_N: Int[Tensor, " N"]
    middle_query_BD: Float[Tensor, "B D"] | None = None
    middle_document_ND: Float[Tensor, "N D"] | None = None
    in_batch: bool = True  # the same on all ranks


class TokenStates(NamedTuple):
    """What the loss of the language-model task sees: states, their targets, and the head's parameters."""

    state_PD: Float[Tensor, "P D"]
    target_P: Int[Tensor, " P"]
    head_VD: Float[Tensor, "V D"]
    bias_V: Float[Tensor, " V"] | None
    mean_targets: float
