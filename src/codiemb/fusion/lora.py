"""A LoRA adapter in peft's format, merged into its base's weights one tensor at a time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from codiemb.encoder.model_files import ADAPTER_CONFIG
from codiemb.errors import UserError
from codiemb.json_files import COPY_AGAIN, read_json

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
        shapes: of these weights, as the factors say.
    """

    file: Path
    scaling: float
    factors: dict[str, tuple[str, str]]
    shapes: dict[str, tuple[int, ...]]

    def renamed(self, names: Mapping[str, str]) -> "Adapter":
        """The same under other names of the weights, where `names` has one."""
        factors = {names.get(name, name): keys for name, keys in self.factors.items()}
        return replace(
            self, factors=factors, shapes={names.get(name, name): s for name, s in self.shapes.items()}
        )

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
    config = read_json(folder / ADAPTER_CONFIG, {}, COPY_AGAIN)
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
    factors, shapes = _factors(file)
    return Adapter(file, _scaling(config, folder / ADAPTER_CONFIG), factors, shapes), _base(config, folder)


def _factors(file: Path) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[int, ...]]]:
    with safe_open(file, "pt") as opened:
        keys = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    factors = {}
    for key in sorted(keys):
        if key.endswith(".lora_A.weight"):
            other = key.removesuffix("lora_A.weight") + "lora_B.weight"
            factors[key.removeprefix(_PREFIX).removesuffix("lora_A.weight") + "weight"] = (key, other)
    unknown = keys.keys() ^ {key for pair in factors.values() for key in pair}
    if unknown:
        raise UserError(f"{file}: {min(unknown)} is not one of a pair of LoRA factors of a linear layer")
    for a, b in factors.values():
        if len(keys[a]) != 2 or len(keys[b]) != 2 or keys[a][0] != keys[b][1]:
            raise UserError(
                f"{file}: {a} of shape {list(keys[a])} and {b} of {list(keys[b])} have no product"
            )
    return factors, {name: (keys[b][0], keys[a][1]) for name, (a, b) in factors.items()}


def _scaling(config: dict[str, Any], path: Path) -> float:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise UserError(f"{path}: r is {rank!r:.60}, not a rank of 1 or more")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{path}: lora_alpha is {alpha!r:.60}, not a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _base(config: dict[str, Any], folder: Path) -> str | None:
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        path = folder / ADAPTER_CONFIG
        raise UserError(f"{path}: base_model_name_or_path is {base!r:.60}, not the name of a folder")
    return base
