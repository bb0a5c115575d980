"""The nouns that every other file speaks: a packed ragged batch, and the same batch once embedded.

Shape letters, used as suffixes all over the package (the one legend):
    B queries on this rank     N documents on this rank     M documents on all ranks
    S sequences (unique texts) T packed tokens              D embedding width
    P predicted tokens         V vocabulary                 (language-model batches)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
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


class Groups(NamedTuple):
    """Which documents belong to which query, and as what.

    Ragged: a query owns 1..n positives and 0..n hard negatives, nothing is repeated to fill a rectangle. From
    collator to loss it travels whole, so that a field is added here and nowhere else.
    """

    owner_N: Int[Tensor, " N"]  # the query (0..B-1) that brought each document, ascending
    is_positive_N: Bool[Tensor, " N"]  # positive, or hard negative
    score_N: Float[Tensor, " N"]  # gold score in [0, 1]; NaN where the record gives none
    query_hash_B: Int[Tensor, " B"]  # 64-bit hash of the normalised text, without its prompt
    document_hash_N: Int[Tensor, " N"]
    # of any range, as the record has it, in fp32; NaN where it gives none. Apart from the gold score: what
    # asks whether a document is graded, or how well it fits, must not take a reranker's 7.3 for an answer
    teacher_score_N: Float[Tensor, " N"] | None = None
    in_batch: bool = True  # whether other queries' documents may be negatives; the same on all ranks

    @staticmethod
    def joined(parts: Sequence["Groups"]) -> "Groups":
        """The groups of several batches, one after the other."""
        columns: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name, column in parts[0]._asdict().items()
            if isinstance(column, Tensor)
        }
        sizes = torch.tensor([len(part.query_hash_B) for part in parts])
        first = (sizes.cumsum(0) - sizes).tolist()
        owners = [part.owner_N + start for part, start in zip(parts, first, strict=True)]
        return parts[0]._replace(**columns | {"owner_N": torch.cat(owners)})

    def of_queries(self, kept_B: Bool[Tensor, " B"]) -> "Groups":
        """Without the other queries and their documents; those that stay are numbered anew."""
        kept = self._replace(**_kept_rows(self._asdict(), kept_B, self.owner_N))
        number_B = kept_B.cumsum(0) - 1
        return kept._replace(owner_N=number_B[kept.owner_N.long()].to(self.owner_N.dtype))


class Batch(NamedTuple):
    """One single-task batch of one rank, before encoding.

    Identical texts share one sequence, so `query_sequence_B` and `document_sequence_N` point into `texts` and
    may repeat.
    """

    task: str
    source: str
    texts: PackedTexts
    query_sequence_B: Int[Tensor, " B"]  # the sequence that holds each query
    document_sequence_N: Int[Tensor, " N"]  # the sequence that holds each document
    groups: Groups


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
    groups: Groups
    middle_query_BD: Float[Tensor, "B D"] | None = None
    middle_document_ND: Float[Tensor, "N D"] | None = None

    def of_queries(self, kept_B: Bool[Tensor, " B"]) -> "EmbeddedBatch":
        """Without the other queries and their documents."""
        kept = self._replace(**_kept_rows(self._asdict(), kept_B, self.groups.owner_N))
        return kept._replace(groups=self.groups.of_queries(kept_B))


class TokenStates(NamedTuple):
    """What the loss of the language-model task sees: states, their targets, and the head's parameters."""

    state_PD: Float[Tensor, "P D"]
    target_P: Int[Tensor, " P"]
    head_VD: Float[Tensor, "V D"]
    bias_V: Float[Tensor, " V"] | None
    mean_targets: float


def _kept_rows(columns: Mapping[str, Any], kept_B: Tensor, owner_N: Tensor) -> dict[str, Any]:
    """Those rows of every tensor; a name's first shape letter says whether rows are queries or documents."""
    kept = {"B": kept_B, "N": kept_B[owner_N.long()]}
    tensors = {name: column for name, column in columns.items() if isinstance(column, Tensor)}
    return {name: column[kept[name.rpartition("_")[2][0]]] for name, column in tensors.items()}
