"""Attention over a packed stream: one function registered with transformers, no padding, no mask.

Tokens of all sequences lie in one row (1, H, T, d). Runs of sequences of equal length are viewed, without a
copy, as a dense (n, H, L, d) batch and handed to SDPA, so no score between two sequences is ever computed.
Cost: one SDPA call per distinct length and layer; the collator sorts a batch by length to make runs long.
"""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED_ATTENTION = "codiemb_packed"
_VARIANTS = ("sliding_window", "softcap", "position_bias", "s_aux")  # keywords that change the result


@dataclass
class Packing:
    """Where the sequences of a packed stream lie, computed once per forward pass and shared by all layers."""

    runs: list[tuple[int, int]]  # (number of consecutive sequences, their common length in tokens)
    causal: bool
    calls: int = field(default=0)  # attention calls seen; 0 after a forward means the model bypassed us

    @classmethod
    def of(cls, sequence_lengths: tuple[int, ...], *, causal: bool) -> "Packing":
        """Group consecutive sequences of equal length."""
        return cls([(len(list(run)), length) for length, run in groupby(sequence_lengths)], causal)


def position_ids(sequence_lengths: tuple[int, ...], device: torch.device) -> Int[Tensor, "1 T"]:
    """Positions that restart at 0 with every sequence."""
    return torch.cat([torch.arange(length) for length in sequence_lengths])[None].to(device)


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 H T d"],
    key: Float[Tensor, "1 K T d"],
    value: Float[Tensor, "1 K T v"],
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extras: Any,  # noqa: ANN401  transformers hands every attention function its own extras
) -> tuple[Float[Tensor, "1 T H v"], None]:
    """The attention function; `packing` travels as a keyword through the model's forward.

    Raises:
        RuntimeError: the model did not pass `packing` on, or wants an attention variant that is not
            implemented here (the encoder then pads instead).
    """
    if packing is None:
        raise RuntimeError(f"{type(module).__name__} does not pass keyword arguments on to its attention")
    unknown = [name for name in _VARIANTS if extras.get(name) is not None]
    if unknown:
        raise RuntimeError(f"{type(module).__name__} uses {', '.join(unknown)}")
    packing.calls += 1
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1:
        key, value = key.repeat_interleave(num_groups, 1), value.repeat_interleave(num_groups, 1)
    # split, not slices: its backward is one concatenation instead of one zero-filled stream per run
    sizes = [count * length for count, length in packing.runs]
    streams = (x[0].split(sizes, dim=1) for x in (query, key, value))
    outputs = []
    for (count, _), *qkv in zip(packing.runs, *streams, strict=True):
        q, k, v = (_as_batch(x, count) for x in qkv)
        out = F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=packing.causal, scale=scaling
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def _as_batch(rows: Float[Tensor, "H nL d"], count: int) -> Float[Tensor, "n H L d"]:
    return rows.unflatten(1, (count, -1)).transpose(0, 1)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
