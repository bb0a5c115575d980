"""Refuse a model's impossible settings before anything is built."""

import difflib
from typing import Any

from transformers import AutoConfig

from codiemb.encoder.spec import ModelSpec
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError

_CHOICES = {
    "pooling": ("mean", "cls", "last_token"),
    "attention": ("bidirectional", "causal"),
    "dtype": ("float32", "bfloat16", "float16"),
    "weights": (None, "pretrained", "random"),
    "init": ("standard", "bag_of_words"),
}


def check_spec(spec: ModelSpec) -> None:
    """Refuse impossible settings before anything is built.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    for key, choices in _CHOICES.items():
        if getattr(spec, key) not in choices:
            raise UserError(f"model.{key}={getattr(spec, key)!r} is none of {', '.join(map(str, choices))}")
    if spec.path is None and not spec.architecture:
        raise UserError("model.path is not set and model.architecture is empty: nothing to build")
    if spec.weights == "pretrained" and spec.path is None:
        raise UserError("model.weights=pretrained needs model.path=FOLDER_OR_HUB_ID")
    if spec.weights == "random" and not spec.architecture:
        raise UserError(f"model.weights=random needs model.architecture, and model={spec.name} states none")
    if spec.max_tokens < 1:
        raise UserError(f"model.max_tokens={spec.max_tokens} must be at least 1")
    if spec.lora.r < 0:
        raise UserError(f"model.lora.r={spec.lora.r} must be at least 1; 0 trains all weights")
    if spec.middle_layer not in (None, "middle") and not str(spec.middle_layer).isdecimal():
        raise UserError(f"model.middle_layer={spec.middle_layer!r} must be middle, null or a layer's number")
    PromptTemplate(spec.prompt.query, spec.prompt.document)
    if spec.weights == "random" or spec.path is None:
        _check_architecture(spec.architecture)


def _check_architecture(architecture: dict[str, Any]) -> None:
    """transformers takes any key and silently ignores those it does not know."""
    if "model_type" not in architecture:
        raise UserError("model.architecture.model_type is missing; example: model_type: youtu")
    try:
        example = AutoConfig.for_model(architecture["model_type"])
    except ValueError as error:
        raise UserError(
            f"model.architecture.model_type={architecture['model_type']!r} is unknown to this transformers"
        ) from error
    known = {*example.to_dict(), *example.attribute_map, "rope_theta", "rope_scaling"}
    for key in architecture:
        if key not in known and not hasattr(example, key):
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"model.architecture.{key}: {example.model_type} has no such key{meant}")
