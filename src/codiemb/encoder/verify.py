"""Checks on the real model before training: attention is what the config says, a text is what it is alone."""

from collections.abc import Callable

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedConfig

from codiemb.batch import PackedTexts
from codiemb.encoder.direction import directions, embedded
from codiemb.encoder.encoder import Encoder, HiddenStates
from codiemb.encoder.modes import eval_mode
from codiemb.errors import UserError

_LENGTHS = (13, 5, 5, 3)  # 13 tells tokens from heads and widths, see `directions`
_MAX_LONG_TOKENS = 1_024
_LONG_COST = 30_000_000_000  # weights x tokens: a second or two on two cores
_LONG_TOLERANCE = 1e-3  # of packed states to padded ones: sums of many terms are rounded otherwise


def padding_reason(encoder: Encoder) -> str | None:
    """Why the encoder must run padded, or None if it may run packed: either way a text is what it is alone.

    Raises:
        UserError: the model is wrong either way.
    """
    verify_attention(encoder)
    problem = packing_problem(encoder) or long_packing_problem(encoder)
    if problem and (other := long_mate_problem(encoder)):
        raise _refused(encoder, other)
    return problem


def verify_attention(encoder: Encoder) -> None:
    """Every layer looks where `model.attention` says, and no text's states depend on the texts beside it.

    Both are asked of transformers' own attention, with and without padding, whichever way the encoder will
    run: the exported model runs so, and `packing_problem` compares packed states with these. Seven passes of
    a few tokens.

    Raises:
        UserError: the model does otherwise.
    """
    with eval_mode(encoder):
        try:
            _verify_directions(encoder)
            problem = _mate_problem(encoder)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # code from the hub fails in its own ways
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{_name(encoder)} does not run as a text encoder: {reason}") from error
    if problem is None:
        return
    if _is_bidirectional_padded(encoder) != (encoder.attention == "bidirectional"):
        raise _not_as_told(encoder, " beside padding")
    raise _refused(encoder, problem)


def _refused(encoder: Encoder, problem: str) -> UserError:
    return UserError(
        f"{_name(encoder)} with model.attention={encoder.attention} is refused: {problem}. No text would "
        "have one embedding. Choose another architecture"
    )


def _verify_directions(encoder: Encoder) -> None:
    """Gradients in every layer of one text alone, then the word on what is not as told."""
    text, told = _texts(_probe(encoder), 0), encoder.attention
    seen = directions(encoder.backbone, lambda: encoder._padded_states(text).last_TD, _LENGTHS[0])
    bidirectional = told == "bidirectional"
    if not any(part.back for part in seen):
        raise UserError(f"{_name(encoder)} has no attention here: no token's state depends on another token")
    wrong = [part for part in seen if (part.back and not part.ahead if bidirectional else part.ahead)]
    if bidirectional and not any(part.ahead for part in seen):
        wrong = wrong or seen[:1]
    if not wrong:
        return
    where = "" if wrong[0] is seen[0] else f" in {', '.join(part.name for part in wrong[:3])}"
    also = f" and {len(wrong) - 3} more" if len(wrong) > 3 and where else ""
    raise _not_as_told(encoder, where + also)


def _not_as_told(encoder: Encoder, where: str) -> UserError:
    told = encoder.attention
    seen, reach = ("causal", "does not reach") if told == "bidirectional" else ("bidirectional", "reaches")
    return UserError(
        f"model.attention={told}, but {_name(encoder)} is {seen}{where}: a later token {reach} an earlier "
        f"one's state. Set model.attention={seen}, or use an architecture (or a transformers version) that "
        "honours is_causal in every layer"
    )


@torch.no_grad()
def _is_bidirectional_padded(encoder: Encoder) -> bool:
    """Whether the last token of the first text changes its first state, beside padding."""
    texts = _probe(encoder)
    ids_T = texts.input_ids_T.clone()
    ids_T[_LENGTHS[0] - 1] += 1
    states = [_padded(encoder, each)[0][0] for each in (texts, texts._replace(input_ids_T=ids_T))]
    return not torch.equal(*states)


@torch.no_grad()
def _mate_problem(encoder: Encoder) -> str | None:
    """What changes the states of a text under transformers' own attention, or None."""
    texts = _probe(encoder)
    alone = [_padded(encoder, _texts(texts, i))[0] for i in (0, 1)]
    if not all(states.isfinite().all() for states in alone):
        return f"its states are not finite in {encoder.backbone.dtype}; see model.dtype"
    equal = _padded(encoder, _texts(texts, 2, 1))[1]
    padded_TD, leaks = _states_and_leak(encoder, encoder._padded_states, texts)
    first, second, *_ = padded_TD.split(list(texts.sequence_lengths))
    cases = {
        "beside one of equal length": (equal, alone[1]),
        "beside shorter ones": (first, alone[0]),
        "beside a longer one": (second, alone[1]),
    }
    for case, (states, expected) in cases.items():
        if (gap := _gap(encoder, states, expected)) >= _tolerance(encoder):
            return f"a text's states change by {gap:.1e} {case}, against the text alone"
    return "a text's states depend on padding or on the texts beside it" if leaks else None


@torch.no_grad()
def long_mate_problem(encoder: Encoder) -> str | None:
    """What a long text does to a short one beside it, padded, or None.

    Some architectures choose another algorithm from some length on.
    """
    if (length := _long(encoder)) is None:
        return None
    texts = _probe(encoder, length)
    with eval_mode(encoder):
        gap = _gap(encoder, _padded(encoder, texts)[0], _padded(encoder, _texts(texts, 0))[0])
    return None if gap < _tolerance(encoder) else f"a text's states change by {gap:.1e} beside a long one"


@torch.no_grad()
def long_packing_problem(encoder: Encoder) -> str | None:
    """What is otherwise packed only where a text is long (a window in the mask alone does that), or None."""
    if (length := _long(encoder)) is None:
        return None
    texts = _probe(encoder, length, special=False)
    with eval_mode(encoder):
        packed = encoder._packed_states(texts).last_TD.float().split(list(texts.sequence_lengths))
        gap = max(_gap(encoder, packed[i], _padded(encoder, _texts(texts, i))[0]) for i in (0, -1))
    limit = max(_LONG_TOLERANCE, _tolerance(encoder))
    return None if gap < limit else f"packed and padded states of {length} tokens differ by {gap:.1e}"


def _long(encoder: Encoder) -> int | None:
    """As long as texts may be, but for large models, which would need minutes."""
    size = sum(parameter.numel() for parameter in encoder.backbone.parameters())
    length = min(encoder.max_tokens, _MAX_LONG_TOKENS, _LONG_COST // size)
    return length if length > _LENGTHS[0] else None


@torch.no_grad()
def packing_problem(encoder: Encoder, tolerance: float | None = None) -> str | None:
    """Why this backbone cannot run packed, or None if packed and padded states agree and no text leaks.

    The tolerance is relative, see `_gap`.
    """
    if variant := _attention_variant(encoder.backbone.config):
        return f"its configuration states {variant}"
    texts = _probe(encoder)
    with eval_mode(encoder):
        try:
            packed, leaks = _states_and_leak(encoder, encoder._packed_states, texts)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # code from the hub fails in its own ways; padded, it may still run
            return f"{type(error).__name__}: {error}".splitlines()[0]
        padded = torch.cat(_padded(encoder, texts))
    compared = sum(_LENGTHS[:3])  # not the special tokens of the last: some models look for padding by its id
    gap = _gap(encoder, packed[:compared], padded[:compared])
    if gap >= (tolerance or _tolerance(encoder)):
        return f"packed and padded states differ by {gap:.1e}"
    return "packed, a text's states depend on the texts beside it" if leaks else None


def _states_and_leak(
    encoder: Encoder, run: Callable[[PackedTexts], HiddenStates], texts: PackedTexts
) -> tuple[Tensor, bool]:
    """All states in fp32, and whether the second text's have a gradient to anything but its own tokens.

    To an embedding of zeros they may: MobileBERT looks at its neighbours' embeddings, and that of padding
    is zero and stays so.
    """
    before, length = texts.sequence_lengths[:2]
    with torch.enable_grad(), embedded(encoder.backbone) as embeddings:
        all_states = run(texts).last_TD
        states = all_states[before : before + length]
        projection = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).to(states)
        (gradient,) = torch.autograd.grad(states, embeddings[0], projection)
    depends = gradient.nan_to_num(0, 0, 0).any(-1) & embeddings[0].any(-1)  # an overflow proves nothing
    own = depends[0, before : before + length] if len(depends) == 1 else depends[1, :length]
    return all_states.detach().float(), bool(depends.sum() > own.sum())


def _gap(encoder: Encoder, states: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest state, in half precision the root mean square of both.

    Rounding in bf16 reaches 4e-2 of the largest state after 24 layers. Infinite where it is not a number.
    """
    size = (lambda x: x.norm()) if _is_half(encoder) else (lambda x: x.abs().max())
    return float((size(states - expected) / size(expected)).nan_to_num(torch.inf))


def _tolerance(encoder: Encoder) -> float:
    """2e-5 in fp32; 8e-2 in half precision, where gradients find what is smaller."""
    return 8e-2 if _is_half(encoder) else 2e-5


def _is_half(encoder: Encoder) -> bool:
    return encoder.backbone.dtype in (torch.float16, torch.bfloat16)


def _attention_variant(config: PreTrainedConfig) -> str | None:
    """What some models apply by the place in the row, or in their mask only, too wide for our probe."""
    if layer_types := getattr(config, "layer_types", None):
        kinds = sorted(set(layer_types) - {"full_attention"})
        if kinds:
            return f"layers of type {', '.join(kinds)}"
    else:
        limits = ("sliding_window", "attention_chunk_size")
        if key := next((key for key in limits if getattr(config, key, None)), None):
            return f"{key}={getattr(config, key)}"
    scales = ("attn_temperature_tuning", "log_scaling_n_floor")
    return next((f"{key}={value}" for key in scales if (value := getattr(config, key, None))), None)


def _padded(encoder: Encoder, texts: PackedTexts) -> list[Tensor]:
    """The states of every text, in fp32."""
    return list(encoder._padded_states(texts).last_TD.float().split(list(texts.sequence_lengths)))


def _name(encoder: Encoder) -> str:
    backbone = encoder.backbone
    return type(backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone).__name__


def _probe(encoder: Encoder, last: int = _LENGTHS[-1], *, special: bool = True) -> PackedTexts:
    """Four sequences of ordinary token ids, the last of them of any length, with special tokens first."""
    vocab = encoder.backbone.config.vocab_size
    lengths = (*_LENGTHS[:-1], last)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab // 2, (sum(lengths),), generator=generator) + vocab // 4
    if special:
        first = [token for token in encoder.tokenizer.hf.all_special_ids if token < vocab][:last]
        start = sum(lengths[:-1])
        ids[start : start + len(first)] = torch.tensor(first, dtype=ids.dtype)
    device = next(encoder.backbone.parameters()).device
    return PackedTexts(ids.to(device), lengths, (0,) * len(lengths))


def _texts(texts: PackedTexts, *which: int) -> PackedTexts:
    """Some of the texts, as a stream of their own."""
    parts = texts.input_ids_T.split(list(texts.sequence_lengths))
    lengths = tuple(texts.sequence_lengths[i] for i in which)
    return PackedTexts(torch.cat([parts[i] for i in which]), lengths, (0,) * len(which))
