"""Refuse, before training, weights that are not numbers and runs that would train nothing."""

from collections.abc import Iterable
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from codiemb.encoder.encoder import Encoder
from codiemb.encoder.stream import pack_texts
from codiemb.errors import UserError


@torch.no_grad()
def refuse_nonfinite(module: nn.Module, path: str, dtype: str) -> None:
    """One pass over all weights: a second or so for two billion.

    Raises:
        UserError: naming the first weights that hold NaN or infinity.
    """
    wrong = [name for name, weight in module.named_parameters() if not _is_finite(weight)]
    wrong += [name for name, buffer in module.named_buffers() if buffer.isnan().any()]  # masks hold -inf
    if not wrong:
        return
    overflow = "; in float16 numbers end at 65,504, so try model.dtype=bfloat16" if dtype == "float16" else ""
    raise UserError(
        f"{path}: {len(wrong)} of its weights hold NaN or infinity ({', '.join(wrong[:3])}), from which no "
        f"training recovers; take an earlier checkpoint or download it again{overflow}"
    )


def _is_finite(weight: Tensor) -> bool:
    if not weight.is_floating_point() or weight.numel() == 0:
        return True
    return bool(torch.stack(torch.aminmax(weight)).isfinite().all())  # reads once, makes no copy; NaN wins


def refuse_untrained(encoder: Encoder) -> None:
    """At least one weight must be trained, and of LoRA's one must be on the way to an embedding.

    Raises:
        UserError: naming the setting.
    """
    backbone = encoder.backbone
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    is_lora = isinstance(backbone, PeftModel)
    if trained and not (is_lora and _all_unused(encoder, trained)):
        return
    if is_lora:
        targets = cast(LoraConfig, next(iter(backbone.peft_config.values()))).target_modules
        raise UserError(
            f"model.lora.target_modules={targets} trains no weight on the way to an embedding (a pooler is "
            "not on it); name modules of the layers, or all-linear"
        )
    raise UserError("no weight of the model would be trained: all are frozen")


def _all_unused(encoder: Encoder, trained: Iterable[Tensor]) -> bool:
    """Whether a backward pass reaches none of them."""
    device = next(encoder.backbone.parameters()).device
    with torch.enable_grad():
        rows_SD = encoder(pack_texts([([1, 2, 3], 0)], device)).last_SD
        if not rows_SD.requires_grad:
            return True
        gradients = torch.autograd.grad(rows_SD.sum(), list(trained), allow_unused=True)
    return all(gradient is None for gradient in gradients)
