"""Attention over a packed stream: one function registered with transformers, no padding, no mask.

Tokens of all sequences lie in one row (1, H, T, d), and no score between two sequences is ever computed:
- on CUDA in half precision, torch's variable-length FlashAttention takes the whole row at once;
- elsewhere, runs of sequences of equal length are viewed, without a copy, as a dense (n, H, L, d) batch. That
  is one call per distinct length and layer; the collator sorts a batch by length to make runs long.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

PACKED_ATTENTION = "codiemb_packed"
_VARIANTS = ("sliding_window", "softcap", "position_bias", "s_aux")  # keywords that change the result
_MAX_PLAIN_TOKENS = 1_024
# torch 2.11's kernel takes fewer key heads than query heads without a word; later ones want to be told
_NAMES_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters


@dataclass
class Packing:
    """Where the sequences of a packed stream lie, computed once per forward pass and shared by all layers."""

    runs: list[tuple[int, int]]  # (number of consecutive sequences, their common length in tokens)
    offsets_Z: Int[Tensor, " Z"]  # Z = S + 1 borders between sequences, int32, on the stream's device
    longest: int  # tokens
    causal: bool
    calls: int = field(default=0)  # attention calls seen; 0 after a forward means the model bypassed us

    @classmethod
    def of(cls, sequence_lengths: tuple[int, ...], device: torch.device, *, causal: bool) -> "Packing":
        """Group consecutive sequences of equal length."""
        runs = [(len(list(run)), length) for length, run in groupby(sequence_lengths)]
        offsets_Z = torch.tensor([0, *accumulate(sequence_lengths)], dtype=torch.int32, device=device)
        return cls(runs, offsets_Z, max(sequence_lengths), causal)


def position_ids(sequence_lengths: tuple[int, ...], device: torch.device) -> Int[Tensor, "1 T"]:
    """Positions that restart at 0 with every sequence."""
    return torch.cat([torch.arange(length) for length in sequence_lengths])[None].to(device)


def position_offset(backbone: nn.Module) -> int:
    """RoBERTa-style models count positions from padding_idx + 1; all others from 0."""
    for module in backbone.modules():
        padding_idx = getattr(module, "padding_idx", None)
        learned = isinstance(getattr(module, "position_embeddings", None), nn.Embedding)
        if learned and isinstance(padding_idx, int):
            return padding_idx + 1
    return 0


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
    device = query.device.type
    if torch.is_autocast_enabled(device):  # it knows neither kernel, and rotary embeddings return fp32
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if has_varlen_kernel(query, value, dropout):
        return _varlen(query[0], key[0], value[0], packing, scale)[None], None
    return _by_runs(query[0], key[0], value[0], packing, scale, dropout)[None], None


def has_varlen_kernel(query: Tensor, value: Tensor, dropout: float) -> bool:
    """What torch's variable-length kernel can do: CUDA from Ampere on, half precision, heads up to 256.

    It has no dropout, so a model that trains with attention dropout goes by runs.
    """
    width = max(query.shape[-1], value.shape[-1])
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and dropout == 0
        and width <= 256
        and width % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and torch.backends.cuda.is_flash_attention_available()
    )


def _varlen(
    query: Float[Tensor, "H T d"],
    key: Float[Tensor, "K T d"],
    value: Float[Tensor, "K T v"],
    packing: Packing,
    scale: float,
) -> Float[Tensor, "T H v"]:
    """One kernel for the whole stream. It wants one width: the narrower side is filled up with zeros.

    Youtu's queries and keys are 192 wide, its values 128. Zeros change no score and add no output.
    """
    width = max(query.shape[-1], value.shape[-1])
    query_THd, key_TKd, value_TKd = (
        F.pad(x, [0, width - x.shape[-1]]).transpose(0, 1) for x in (query, key, value)
    )
    grouped: dict[str, Any] = {"enable_gqa": query.shape[0] != key.shape[0]} if _NAMES_GROUPS else {}
    out: Any = varlen_attn(  # a tuple only if asked for more
        query_THd,
        key_TKd,
        value_TKd,
        packing.offsets_Z,
        packing.offsets_Z,
        packing.longest,
        packing.longest,
        scale=scale,
        window_size=(-1, 0) if packing.causal else (-1, -1),
        **grouped,
    )
    return out[..., : value.shape[-1]]


def _by_runs(
    query: Float[Tensor, "H T d"],
    key: Float[Tensor, "K T d"],
    value: Float[Tensor, "K T v"],
    packing: Packing,
    scale: float,
    dropout: float,
) -> Float[Tensor, "T H v"]:
    """One dense call per run of equal lengths."""
    num_groups = query.shape[0] // key.shape[0]
    if num_groups > 1:
        key, value = key.repeat_interleave(num_groups, 0), value.repeat_interleave(num_groups, 0)
    # split, not slices: its backward is one concatenation instead of one zero-filled stream per run
    sizes = [count * length for count, length in packing.runs]
    streams = [x.split(sizes, dim=1) for x in (query, key, value)]
    outputs = []
    with _no_plan_a_shape(query.device.type):
        for (count, length), q, k, v in zip(packing.runs, *streams, strict=True):
            attend = _plain if _flash_is_slow(query, length, dropout) else F.scaled_dot_product_attention
            q, k, v = (_as_batch(x, count) for x in (q, k, v))
            out = attend(q, k, v, dropout_p=dropout, is_causal=packing.causal, scale=scale)
            outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _no_plan_a_shape(device_type: str) -> AbstractContextManager[None]:
    """SDPA without cuDNN, on Hopper its first choice in half precision from some torch on.

    cuDNN builds a plan for every new shape, for tens of milliseconds, and every run has a shape of its own.
    """
    if device_type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _as_batch(rows: Float[Tensor, "H nL d"], count: int) -> Float[Tensor, "n H L d"]:
    return rows.unflatten(1, (count, -1)).transpose(0, 1)


def _flash_is_slow(query: Tensor, length: int, dropout: float) -> bool:
    """SDPA on CPU in half precision: 2 to 5 times the time of plain products (experiments/LOG.md).

    Plain products keep the probabilities for the backward pass, which long sequences cannot afford. With
    dropout SDPA on CPU has no kernel and does the same, with checks for rows that are masked as a whole.
    """
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.device.type == "cpu" and (dropout > 0 or (half and length <= _MAX_PLAIN_TOKENS))


def _plain(
    query: Float[Tensor, "n H L d"],
    key: Float[Tensor, "n H L d"],
    value: Float[Tensor, "n H L v"],
    *,
    dropout_p: float,
    is_causal: bool,
    scale: float,
) -> Float[Tensor, "n H L v"]:
    """Attention by its formula, with the arguments of `scaled_dot_product_attention`."""
    score = (query * scale) @ key.mT
    if is_causal:
        later = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).triu(1)
        score = score.masked_fill(later, -torch.inf)
    return F.dropout(score.softmax(dim=-1), dropout_p) @ value


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
