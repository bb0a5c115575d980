"""Pooling of packed hidden states to one vector per sequence: mean, first or last token, always in fp32."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

PoolingMode = Literal["mean", "cls", "last_token"]


def pool(
    hidden_TD: Float[Tensor, "T D"],
    sequence_lengths_S: Int[Tensor, " S"],
    prompt_lengths_S: Int[Tensor, " S"],
    mode: PoolingMode,
) -> Float[Tensor, "S D"]:
    """One vector per sequence, in fp32 (float64 states stay float64).

    `mean` averages over the tokens after the prompt only (docs/method.md section 4); a special token after
    the text counts, as it does in sentence-transformers. `cls` takes the first token of the sequence, prompt
    or not, `last_token` the last. bf16 accumulation of a 512-token mean loses 1e-2, hence fp32. The tokenizer
    guarantees that every sequence has a token after its prompt.
    """
    hidden_TD = hidden_TD.to(torch.promote_types(hidden_TD.dtype, torch.float32))
    ends_S = sequence_lengths_S.cumsum(0)
    if mode == "last_token":
        return hidden_TD[ends_S - 1]
    starts_S = ends_S - sequence_lengths_S
    if mode == "cls":
        return hidden_TD[starts_S]
    pooled_counts_S = sequence_lengths_S - prompt_lengths_S
    owner_T = torch.repeat_interleave(
        torch.arange(len(sequence_lengths_S), device=hidden_TD.device), sequence_lengths_S
    )
    position_T = torch.arange(len(owner_T), device=hidden_TD.device) - starts_S[owner_T]
    weight_T = (position_T >= prompt_lengths_S[owner_T]) / pooled_counts_S[owner_T]
    # on CUDA index_add adds in the order in which threads arrive; segment_reduce has one order, everywhere.
    # unsafe=True: the lengths need no check, which would wait for the device
    weighted_TD = hidden_TD * weight_T[:, None]
    return torch.segment_reduce(weighted_TD, "sum", lengths=sequence_lengths_S, unsafe=True)
