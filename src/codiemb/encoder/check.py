"""Refuse a model's impossible settings before anything is built."""

import difflib
import inspect
import logging
from typing import Any

from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from codiemb.encoder.spec import CHOICES, LoraSpec, ModelSpec
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError

log = logging.getLogger(__name__)


def check_spec(spec: ModelSpec) -> None:
    """Refuse impossible settings before anything is built.

    Raises:
        UserError: naming the key, the value and the possible values.
    """
    _check_choices(spec)
    if spec.path is None and not spec.architecture:
        raise UserError("model.path is not set and model.architecture is empty: nothing to build")
    if spec.weights == "pretrained" and spec.path is None:
        raise UserError("model.weights=pretrained needs model.path=FOLDER_OR_HUB_ID")
    if spec.weights == "random" and not spec.architecture:
        raise UserError(f"model.weights=random needs model.architecture, and model={spec.name} states none")
    _check_native(spec)
    if spec.max_tokens < 1:
        raise UserError(f"model.max_tokens={spec.max_tokens} must be at least 1")
    _check_lora(spec.lora)
    if spec.middle_layer not in (None, "middle") and not str(spec.middle_layer).isdecimal():
        raise UserError(f"model.middle_layer={spec.middle_layer!r} must be middle, null or a layer's number")
    PromptTemplate(**vars(spec.prompt))
    if spec.weights == "random" or spec.path is None:
        _check_architecture(spec.architecture)


def check_trainable(spec: ModelSpec) -> None:
    """Refuse what run_eval.py can score and nobody can train here; warn of settings of a LoRA that is off.

    Raises:
        UserError: in one sentence.
    """
    if spec.loader != "codiemb":
        raise UserError(
            f"model={spec.loader} can be evaluated, not trained: its weights are in other hands than ours; "
            "model=pretrained model.path=FOLDER_OR_HUB_ID trains any encoder"
        )
    if spec.native.rotary is not None:
        raise UserError(
            f"model={spec.name} with model.native can be evaluated, not trained: nobody has compared it with "
            "the model's own code, which model.native.rotary=null model.trust_remote_code=true runs"
        )
    for key, default in vars(LoraSpec()).items():
        value = getattr(spec.lora, key)
        if spec.lora.r == 0 and value != default:  # no error: a sweep may go over ranks, 0 among them
            log.warning(
                "model.lora.%s=%s has no effect: model.lora.r=0 trains all weights, without adapters",
                key,
                value,
            )


def _check_native(spec: ModelSpec) -> None:
    rotary = spec.native.rotary
    if rotary not in (None, "halves", "pairs"):
        raise UserError(f"model.native.rotary={rotary!r} is none of null, halves, pairs")
    if rotary is not None and "model_type" not in spec.architecture:
        raise UserError("model.native needs model.architecture, with its model_type: what to read weights as")


def _check_choices(spec: ModelSpec) -> None:
    for key, choices in CHOICES.items():
        if getattr(spec, key) not in choices:
            raise UserError(f"model.{key}={getattr(spec, key)!r} is none of {', '.join(map(str, choices))}")
    if spec.loader != "codiemb":
        raise UserError(f"model.loader={spec.loader} is for run_eval.py; this needs an encoder of ours")


def warn_of_backslashes(spec: ModelSpec) -> None:
    """A shell and Hydra hand `\\n` through as two characters, which no prompt means."""
    for key, prompt in vars(spec.prompt).items():
        if "\\n" in prompt or "\\t" in prompt:
            log.warning(
                "model.prompt.%s=%r holds a backslash and a letter, not a line break: write it in YAML "
                "between double quotes, or for the shell as $'model.prompt.%s=\"...\\n...\"' ",
                *(key, prompt, key),
            )


def _check_lora(lora: LoraSpec) -> None:
    if lora.r < 0:
        raise UserError(f"model.lora.r={lora.r} must be at least 1; 0 trains all weights")
    if lora.lora_alpha < 1:
        raise UserError(
            f"model.lora.lora_alpha={lora.lora_alpha} must be at least 1: adapters count lora_alpha / r "
            "times, and at 0 nothing would be trained"
        )
    if not 0 <= lora.lora_dropout < 1:
        raise UserError(
            f"model.lora.lora_dropout={lora.lora_dropout} must be a share from 0 on, below 1: at 1 nothing "
            "would be trained"
        )
    _check_target_modules(lora.target_modules)


def _check_target_modules(value: object) -> None:
    """Names of modules, or one string."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"model.lora.target_modules={value!r} must be all-linear, a regular expression or a list: "
            "[q_proj,v_proj]"
        )


def refuse_encoder_decoder(config: PreTrainedConfig, path: str, backbone: nn.Module | None = None) -> None:
    """Refuse what has two towers or no text of its own, by its config and, once it is there, by its inputs.

    Raises:
        UserError: naming the model and its kind.
    """
    inputs = inspect.signature(type(backbone).forward).parameters if backbone is not None else {}
    use = "use an encoder (bert, xlm-roberta, modernbert) or a decoder (youtu, qwen3, llama)"
    if getattr(config, "is_encoder_decoder", False) or "decoder_input_ids" in inputs:
        raise UserError(f"{path} is an encoder-decoder ({config.model_type}), which is not supported: {use}")
    needed = ("vocab_size", "hidden_size", "num_hidden_layers")
    if missing := [key for key in needed if not hasattr(config, key)]:
        raise UserError(
            f"{path} ({config.model_type}) is no text model: its config states no {', '.join(missing)}; {use}"
        )


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
    refuse_encoder_decoder(example, f"model.architecture.model_type={example.model_type}")
    known = {*example.to_dict(), *example.attribute_map, "rope_theta", "rope_scaling"}
    for key in architecture:
        if key not in known and not hasattr(example, key):
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"model.architecture.{key}: {example.model_type} has no such key{meant}")
