"""A folder with a LoRA adapter alone: the base that it names, with the adapter merged into its weights."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from torch import Tensor
from transformers import PreTrainedModel

from codiemb.encoder.model_files import ADAPTER_CONFIG, inner_folder, is_adapter, settings_folder
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError
from codiemb.json_files import TEXT, read_json, take

_PREFIX = "base_model.model."  # of peft's names


def base_of(folder: Path) -> str:
    """The folder or hub id of the model that an adapter changes.

    Raises:
        UserError: the adapter names none, or one that is not here.
    """
    path = folder / ADAPTER_CONFIG
    base: str | None = take(read_json(path, {}), "base_model_name_or_path", TEXT, path)
    if not base:
        raise UserError(f"{path} names no base model: set base_model_name_or_path in it")
    if settings_folder(ModelSpec(path=base)) is None:
        raise UserError(
            f"{path} names the base {base!r}, which is neither a folder nor to be had from the hub: correct "
            "base_model_name_or_path in it, or merge the adapter (peft's merge_and_unload) and give that"
        )
    return base


def split_adapter(spec: ModelSpec) -> tuple[ModelSpec, Path | None]:
    """The spec of the base and the adapter's folder, where `spec.path` is an adapter; else the spec and None.

    The tokenizer is the adapter's, if it brings one.
    """
    folder = settings_folder(spec)
    folder = None if folder is None or spec.weights == "random" else folder / spec.subfolder
    if folder is None or not is_adapter(folder):
        return spec, None
    own = str(folder) if (folder / "tokenizer_config.json").is_file() else None
    base = replace(spec, path=base_of(folder), subfolder="", tokenizer=spec.tokenizer or own)
    inner = settings_folder(base)
    return replace(base, subfolder="" if inner is None else inner_folder(inner)), folder


def merge_adapter(backbone: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The backbone's weights with the adapter in them.

    Raises:
        UserError: the adapter is damaged, of another model, or of a kind that cannot be merged.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config = PeftConfig.from_pretrained(str(folder))
        model = PeftModel(backbone, config)
        weights = load_peft_weights(str(folder), device="cpu")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # peft checks little, and falls over wrong values in ways of its own
        raise UserError(f"{path}: the adapter cannot be loaded: {type(error).__name__}: {error}") from error
    weights = _of_the_bare_model(weights, backbone)
    expected = get_peft_model_state_dict(model).keys()
    if wrong := sorted(weights.keys() ^ expected):
        raise UserError(
            f"{path}: the adapter does not fit {type(backbone).__name__}: {wrong[0]} "
            f"{'is not in its file' if wrong[0] in expected else 'has no place in the model'} "
            f"({len(wrong)} such names)"
        )
    try:
        set_peft_model_state_dict(model, weights)
        merged = cast(PreTrainedModel, model.merge_and_unload())
    except (AttributeError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path}: the adapter cannot be merged: {error}") from error
    return merged.requires_grad_(True)  # peft froze them


def _of_the_bare_model(weights: dict[str, Tensor], backbone: PreTrainedModel) -> dict[str, Tensor]:
    """Names as without a language-model head, which an adapter may have been trained with."""
    with_head = f"{_PREFIX}{backbone.base_model_prefix}."
    if not backbone.base_model_prefix or not all(name.startswith(with_head) for name in weights):
        return weights
    return {_PREFIX + name.removeprefix(with_head): weight for name, weight in weights.items()}
