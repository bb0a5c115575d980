"""Rotary scaling that looks at the longest position of a batch, made to look at each text's own length."""

from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedConfig

_KINDS = ("dynamic", "longrope")


class RotaryPerText(nn.Module):
    """Hands every text the rotary embedding that it would have alone.

    transformers' "longrope" takes other frequencies, and "dynamic" ever other ones, for a whole batch as soon
    as its longest text passes a border. Here texts above the border get theirs from a further call, all
    others the usual. One pass of the backbone, as before: ranks that hold long texts and ranks that do not
    stay in step. Without a long text it costs nothing, and it has no weights.

    Args:
        rotary: the module as transformers built it.
        border: the longest text in tokens that has the usual frequencies.
        each_length: every length above the border has frequencies of its own ("dynamic").
    """

    def __init__(self, rotary: nn.Module, border: int, *, each_length: bool) -> None:
        super().__init__()
        self.rotary = rotary
        self.border = border
        self.each_length = each_length
        self.lengths: tuple[int, ...] = ()  # of the pass to come, in tokens

    def forward(self, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  theirs
        """What the wrapped module returns: a pair of tensors, or one, with a row for every token."""
        over = [length for length in self.lengths if length > self.border]
        if not over:
            return self.rotary(x, position_ids, *args, **kwargs)
        tops = sorted(set(over)) if self.each_length else [max(over)]
        result = self._up_to(self.border, x, position_ids, *args, **kwargs)
        for top in tops:
            belongs = [length == top if self.each_length else length > self.border for length in self.lengths]
            mask = self._tokens(belongs, position_ids)
            result = _choose(mask, self._up_to(top, x, position_ids, *args, **kwargs), result)
        return result

    def _up_to(self, longest: int, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As if no text were longer. "dynamic" would keep the frequencies of a long batch: forget them."""
        if self.each_length:
            self._forget()
        result = self.rotary(x, position_ids.clamp(max=longest - 1), *args, **kwargs)
        if self.each_length:
            self._forget()
        return result

    def _forget(self) -> None:
        for name, buffer in list(self.rotary.named_buffers()):
            if name.endswith("original_inv_freq"):
                setattr(self.rotary, name.replace("original_", ""), buffer.clone())
        for name in [name for name in vars(self.rotary) if name.endswith("max_seq_len_cached")]:
            setattr(self.rotary, name, self.border)

    def _tokens(self, belongs: list[bool], position_ids: Tensor) -> Bool[Tensor, "rows columns"]:
        """Which tokens are of those texts: of one packed row, or of one padded row a text."""
        belongs_S = torch.tensor(belongs, device=position_ids.device)
        if position_ids.shape[-1] == sum(self.lengths):
            return belongs_S.repeat_interleave(torch.tensor(self.lengths, device=position_ids.device))[None]
        return belongs_S[:, None]


def _choose(mask: Tensor, chosen: Any, other: Any) -> Any:  # noqa: ANN401  tensors or tuples of them
    if isinstance(chosen, tuple):
        return tuple(_choose(mask, *pair) for pair in zip(chosen, other, strict=True))
    return torch.where(mask[..., None], chosen, other)


def rotary_per_text(backbone: nn.Module) -> list[RotaryPerText]:
    """Wrap, in place, every rotary embedding of `backbone` whose scaling looks at the length."""
    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(module, RotaryPerText) or (kind := _kind(child)) is None:
                continue
            border = _border(cast(PreTrainedConfig, child.config), kind)
            setattr(module, name, RotaryPerText(child, border, each_length=kind == "dynamic"))
    return [module for module in backbone.modules() if isinstance(module, RotaryPerText)]


def scaling_border(config: PreTrainedConfig) -> int | None:
    """The longest text in tokens whose rotary embedding does not depend on lengths; None without a border."""
    borders = [_border(config, kind) for kind in _KINDS if kind in _kinds(config)]
    return min(borders, default=None)


def _kind(module: nn.Module) -> str | None:
    """The scaling of a module that is a rotary embedding of transformers' making."""
    if not hasattr(module, "rope_type") or not hasattr(module, "config"):
        return None
    stated = module.rope_type
    types = stated.values() if isinstance(stated, dict) else [stated]
    return next((kind for kind in _KINDS for each in types if kind in str(each)), None)


def _kinds(config: PreTrainedConfig) -> set[str]:
    return {str(parameters.get("rope_type", parameters.get("type"))) for parameters in _parameters(config)}


def _parameters(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary settings: one set for all layers, or one for each kind of layer."""
    stated = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in stated.values() if isinstance(value, dict)]
    return nested or [stated]


def _border(config: PreTrainedConfig, kind: str) -> int:
    """In tokens. "dynamic" grows beyond `max_position_embeddings`, "longrope" changes at the original one."""
    longest = int(config.max_position_embeddings)
    if kind == "dynamic":
        return longest
    found = [each.get("original_max_position_embeddings") for each in _parameters(config)]
    found.append(getattr(config, "original_max_position_embeddings", None))
    return min((int(each) for each in found if each), default=longest)
