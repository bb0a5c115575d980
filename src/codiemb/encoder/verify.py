"""Checks on the real model before training: attention is what the config says, packing equals padding."""

import torch
from transformers import PreTrainedConfig

from codiemb.batch import PackedTexts
from codiemb.encoder.encoder import Encoder, eval_mode
from codiemb.errors import UserError

_LENGTHS = (7, 4, 4)


@torch.no_grad()
def verify_attention(encoder: Encoder) -> None:
    """Change the last token and look at the first hidden state: bidirectional must change, causal must not.

    Raises:
        UserError: the model's attention is not what `model.attention` says.
    """
    with eval_mode(encoder):
        first = [encoder.hidden_states(_probe(encoder, last)).last_TD[0].float() for last in (1, 2)]
    changed = not torch.equal(first[0], first[1])
    if changed != (encoder.attention == "bidirectional"):
        seen = "bidirectional" if changed else "causal"
        raise UserError(
            f"model.attention={encoder.attention}, but {type(encoder.backbone).__name__} is {seen}: "
            f"changing the last token {'changes' if changed else 'does not change'} the first hidden state. "
            f"Set model.attention={seen}, or use a transformers version in which this model honours is_causal"
        )


@torch.no_grad()
def packing_problem(encoder: Encoder, tolerance: float | None = None) -> str | None:
    """Why this backbone cannot run packed, or None if packed and padded states agree.

    The tolerance is relative to the largest state: 1e-4 in fp32, 5e-2 in half precision, whose rounding is
    1e-2; real differences are of order 1.
    """
    if variant := _attention_variant(encoder.backbone.config):
        return f"its configuration states {variant}"
    if tolerance is None:
        tolerance = 1e-4 if encoder.backbone.dtype == torch.float32 else 5e-2
    texts = _probe(encoder, last=1)
    with eval_mode(encoder):
        try:
            packed = encoder._packed_states(texts).last_TD.float()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # code from the hub fails in its own ways; padded, it may still run
            return f"{type(error).__name__}: {error}".splitlines()[0]
        padded = encoder._padded_states(texts).last_TD.float()
    gap = (packed - padded).abs().max() / padded.abs().max()
    return None if gap < tolerance else f"packed and padded states differ by {gap:.1e}"


def _attention_variant(config: PreTrainedConfig) -> str | None:
    """A limit on attention that some models apply in their mask only, too wide for our texts to reach."""
    if layer_types := getattr(config, "layer_types", None):
        kinds = sorted(set(layer_types) - {"full_attention"})
        return f"layers of type {', '.join(kinds)}" if kinds else None
    limits = ("sliding_window", "attention_chunk_size")
    return next((f"{key}={value}" for key in limits if (value := getattr(config, key, None))), None)


def _probe(encoder: Encoder, last: int) -> PackedTexts:
    """Three short sequences of ordinary token ids; the first ends with a token chosen by `last`."""
    vocab = encoder.backbone.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab // 2, (sum(_LENGTHS),), generator=generator) + vocab // 4
    ids[_LENGTHS[0] - 1] = vocab // 4 + last
    device = next(encoder.backbone.parameters()).device
    return PackedTexts(ids.to(device), _LENGTHS, (0,) * len(_LENGTHS))
