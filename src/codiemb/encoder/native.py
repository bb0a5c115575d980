"""Weights of a model with code of its own, read as those of a class of transformers: all of them, or none.

That the two compute the same is an inference from sizes and names (docs/models.md) until somebody compares
them; `pairs_probe` finds gross errors.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from codiemb.encoder.model_files import settings_folder
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError
from codiemb.json_files import read_json

log = logging.getLogger(__name__)

_HEAD = "lm_head."  # a language head: no embedding goes through it
# What the folder's config.json states and the class does not have: the only values that it can stand for.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "rope_scaling": (None, {}),
    "mlp_bias": (None, False),
    "use_sliding_window": (None, False),
    "q_lora_rank": (None, 0),
    "kv_lora_rank": (None, 0),
    "num_experts": (None, 0),
    "n_routed_experts": (None, 0),
}
_IDENTITY = ("model_type", "architectures", "auto_map", "transformers_version", "dtype", "torch_dtype")


def is_native(spec: ModelSpec) -> bool:
    """Whether weights are read as those of `spec.architecture`, without the model's own code."""
    return spec.native.rotary is not None and spec.path is not None and spec.weights != "random"


def native_config(spec: ModelSpec) -> PreTrainedConfig:
    """The class of `spec.architecture` with its sizes, and what else the folder's config.json states.

    Raises:
        UserError: config.json is not to be had, states other sizes, or something that the class cannot do.
    """
    folder = settings_folder(spec)
    path = (folder or Path(spec.path or "")) / "config.json"
    stated = read_json(path, {})
    if folder is None or not (stated or Path(spec.path or "").is_dir()):
        raise UserError(
            f"model={spec.name} needs {spec.path!r}, which is neither a local folder nor on the hub "
            "or its cache. Way on: model.path=FOLDER"
        )
    if not stated:
        raise UserError(f"model.path={spec.path} has no config.json to compare model.architecture with")
    known = AutoConfig.for_model(spec.architecture["model_type"])
    wanted = dict(spec.architecture)
    for key, value in {**stated, **_rope(stated)}.items():
        if key in _IDENTITY or value is None:
            continue
        if key in wanted:
            _compare(path, key, value, wanted[key])
        elif value not in _NEUTRAL.get(key, (value,)):
            raise UserError(f"{path}: {key}={value!r} is nothing that a {known.model_type} does; {_OWN_CODE}")
        elif key not in _NEUTRAL and hasattr(known, key) and key != "rope_theta":
            wanted[key] = value
    if unknown := sorted(
        key for key in stated if not (key in _NEUTRAL or key in _IDENTITY or hasattr(known, key))
    ):
        log.info("%s states what a %s does not read: %s", path, known.model_type, ", ".join(unknown))
    return AutoConfig.for_model(**wanted)


_OWN_CODE = (
    "run the model's own code: model.native.rotary=null model.trust_remote_code=true, once you have read it"
)


def key_mapping(spec: ModelSpec) -> dict[str, str] | None:
    """What transformers renames weights by; None leaves their names."""
    return (dict(spec.native.names) or None) if is_native(spec) else None


def check_whole(spec: ModelSpec, report: dict[str, Any]) -> None:
    """Every weight of the folder has its place; a language head has none, and needs none.

    Args:
        spec: of a native model.
        report: transformers' loading info.

    Raises:
        UserError: naming the weights that are left over, or of another shape.
    """
    left = sorted(name for name in report["unexpected_keys"] if not name.startswith(_HEAD))
    if heads := sorted(set(report["unexpected_keys"]) - set(left)):
        log.info("%s: %s not used: no embedding goes through it", spec.path, ", ".join(heads))
    other = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if not left and not other:
        return
    what = f"{len(left)} weights left over ({', '.join(left[:5])})" if left else ""
    shapes = f"{len(other)} weights of another shape ({', '.join(other[:5])})" if other else ""
    raise UserError(
        f"{spec.path} read as {spec.architecture['model_type']}: {' and '.join(filter(None, (what, shapes)))}"
        f". model.native.names maps names; or {_OWN_CODE}"
    )


def to_halves(backbone: PreTrainedModel, spec: ModelSpec) -> None:
    """Sort the dimensions of every head so that pairs (2i, 2i + 1) become (i, i + width / 2). Exact.

    Scores q . k do not depend on the order of a head's dimensions, as long as q and k share it; nor does a
    root mean square over them.

    Raises:
        UserError: the class has no such projections.
    """
    if is_native(spec) and spec.native.rotary == "pairs":
        _reorder(backbone, _sorted)


@contextmanager
def other_layout(backbone: PreTrainedModel, spec: ModelSpec) -> Iterator[None]:
    """The weights as the other `native.rotary` would have them, until the block ends."""
    there, back = (_sorted, _unsorted) if spec.native.rotary == "halves" else (_unsorted, _sorted)
    _reorder(backbone, there)
    try:
        yield
    finally:
        _reorder(backbone, back)


@torch.no_grad()
def _reorder(backbone: PreTrainedModel, order: Callable[[Tensor, int], Tensor]) -> None:
    found = False
    for name, weight in backbone.named_parameters():
        leaf = name.rpartition("self_attn.")[2]
        if leaf.startswith(("q_proj.", "k_proj.")):
            found = True
            weight.copy_(order(weight, int(backbone.config.head_dim)))
        elif leaf.startswith(("q_norm.", "k_norm.")):
            weight.copy_(order(weight, len(weight)))
    if not found:
        raise UserError(f"model.native.rotary: {type(backbone).__name__} has no q_proj and k_proj to sort")


def _sorted(weight: Tensor, width: int) -> Tensor:
    """Rows of each head: the even ones, then the odd ones."""
    heads = weight.unflatten(0, (-1, width))
    return torch.cat([heads[:, 0::2], heads[:, 1::2]], dim=1).flatten(0, 1)


def _unsorted(weight: Tensor, width: int) -> Tensor:
    heads = weight.unflatten(0, (-1, 2, width // 2))
    return heads.transpose(1, 2).flatten(0, 2)


def _rope(stated: dict[str, Any]) -> dict[str, Any]:
    """Its rotary settings in transformers 5's form, from either form."""
    parameters = dict(stated.get("rope_parameters") or {})
    if "rope_theta" in stated:
        parameters.setdefault("rope_theta", stated["rope_theta"])
    return {"rope_parameters": {"rope_type": "default", **parameters}} if parameters else {}


def _compare(path: Path, key: str, stated: object, wanted: object) -> None:
    if stated != wanted:
        raise UserError(
            f"{path}: {key}={stated!r}, and model.architecture.{key}={wanted!r}: this is another model; "
            + _OWN_CODE
        )
