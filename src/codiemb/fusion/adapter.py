"""A LoRA adapter in peft's format, merged into its base's weights one tensor at a time."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from codiemb.errors import UserError

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# What changes the merge, and the only value of each for which W + scaling * B A is all of it.
_PLAIN = {
    "peft_type": "LORA",
    "use_dora": False,
    "bias": "none",
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "lora_bias": False,
}


@dataclass(frozen=True)
class Adapter:
    """The factors of an adapter.

    Attributes:
        file: where they lie.
        scaling: of the product B A.
        factors: (key of A, key of B) by the name of the weight that they change.
    """

    file: Path
    scaling: float
    factors: dict[str, tuple[str, str]]

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """`weight` with the adapter's change, if it has one for it."""
        if name not in self.factors:
            return weight
        with safe_open(self.file, "pt") as file:
            a, b = (file.get_tensor(key).double() for key in self.factors[name])
        return (weight.double() + self.scaling * (b @ a)).to(weight.dtype)


def open_adapter(folder: Path) -> tuple[Adapter, str | None]:
    """The adapter in a folder, and the base that it names.

    Raises:
        UserError: the folder is damaged, or the adapter is more than plain LoRA on linear layers.
    """
    config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    for key, plain in _PLAIN.items():
        value = config.get(key, plain)
        if value != plain and (value or plain):
            raise UserError(
                f"{folder} is an adapter with {key}={value!r}, which is not merged here; merge it with peft "
                "(merge_and_unload) and give the merged folder"
            )
    file = folder / _ADAPTER_WEIGHTS
    if not file.is_file():
        raise UserError(f"{folder} has {ADAPTER_CONFIG} but no {_ADAPTER_WEIGHTS}")
    with safe_open(file, "pt") as opened:
        keys = set(opened.keys())
    factors = {}
    for key in sorted(keys):
        if key.endswith(".lora_A.weight"):
            other = key.removesuffix("lora_A.weight") + "lora_B.weight"
            factors[key.removeprefix(_PREFIX).removesuffix("lora_A.weight") + "weight"] = (key, other)
    unknown = keys ^ {key for pair in factors.values() for key in pair}
    if unknown:
        raise UserError(f"{file}: {min(unknown)} is not one of a pair of LoRA factors of a linear layer")
    rank = config["r"]
    scaling = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(file, scaling, factors), config.get("base_model_name_or_path")
