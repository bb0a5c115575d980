"""The transformer itself: its configuration and its weights, of a folder, the hub, or random."""

import logging
import pickle
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codiemb.encoder.check import refuse_encoder_decoder
from codiemb.encoder.model_files import check_json
from codiemb.encoder.native import check_whole, is_native, key_mapping, native_config, to_halves
from codiemb.encoder.remote_code import may_run_code, restore_buffers
from codiemb.encoder.soundness import refuse_nonfinite
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable

log = logging.getLogger(__name__)

# What transformers raises for settings that do not go together; each architecture stumbles over its own.
BUILD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError)


def is_random(spec: ModelSpec) -> bool:
    """Whether the weights are drawn, not loaded."""
    return spec.weights == "random" or spec.path is None


def architecture_of(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast | None) -> PreTrainedConfig:
    """The architecture: as the model's folder or the hub has it, or as `spec.architecture` states it.

    Raises:
        UserError: it cannot be had or built, or is not that of a text encoder.
    """
    if is_random(spec):
        assert tokenizer is not None, "its vocabulary may decide the size of a random model"
        config = _stated_config(spec, tokenizer)
    elif is_native(spec):
        config = native_config(spec)
    else:
        path = cast(str, spec.path)
        try:
            with may_run_code(spec):
                config = AutoConfig.from_pretrained(path, **source_of(path, spec))
        except Exception as error:  # damaged files make libraries fall over in any way
            raise not_to_be_had(spec, "model", path, error) from error
        refuse_encoder_decoder(config, path)
    _state_attention(config, spec)
    return config


def source_of(path: str, spec: ModelSpec) -> dict[str, Any]:
    """From where, and with whose code: local files only if the hub does not answer.

    Without that, huggingface_hub retries for 47 seconds before it says that there is no network.
    """
    local = Path(path).is_dir() or not hub_is_reachable()
    place = {"subfolder": spec.subfolder} if path == spec.path and spec.subfolder else {}
    return {"trust_remote_code": spec.trust_remote_code, "local_files_only": local, **place}


def random_backbone(config: PreTrainedConfig, spec: ModelSpec) -> PreTrainedModel:
    """Random weights of an architecture.

    Raises:
        UserError: its settings do not go together.
    """
    try:
        backbone = AutoModel.from_config(config, dtype=getattr(torch, spec.dtype))
    except BUILD_ERRORS as error:
        raise unbuildable(spec, error) from error
    if spec.init == "bag_of_words":
        _init_bag_of_words(backbone)
    return backbone


def pretrained_backbone(config: PreTrainedConfig, spec: ModelSpec) -> PreTrainedModel:
    """The weights at `spec.path`.

    Raises:
        UserError: they are not to be had, not whole, or not finite.
    """
    path = cast(str, spec.path)
    try:
        with may_run_code(spec):
            backbone, report = AutoModel.from_pretrained(
                path,
                config=config,
                dtype=getattr(torch, spec.dtype),
                output_loading_info=True,
                key_mapping=key_mapping(spec),
                **source_of(path, spec),
            )
            restored = restore_buffers(backbone, spec)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as above
        raise not_to_be_had(spec, "model", path, error) from error
    if restored:
        log.info("%s: %d buffers that its code computes were computed anew", path, len(restored))
    if is_native(spec):
        check_whole(spec, report)
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} weights of {type(backbone).__name__} ({', '.join(missing[:3])}), "
            "which would stay random: its weights belong to another architecture"
        )
    refuse_nonfinite(backbone, path, spec.dtype)
    to_halves(backbone, spec)
    return cast(PreTrainedModel, backbone)


def _stated_config(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    settings = dict(spec.architecture)
    if "vocab_size" not in settings:
        settings |= {"vocab_size": len(tokenizer), **_special_ids(tokenizer)}
    try:
        config = AutoConfig.for_model(**settings)
    except BUILD_ERRORS as error:
        raise unbuildable(spec, error) from error
    if config.vocab_size < len(tokenizer):
        raise UserError(
            f"model.architecture.vocab_size={config.vocab_size} is smaller than the tokenizer's vocabulary "
            f"({len(tokenizer)}); leave it out to take the tokenizer's"
        )
    return config


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    names = ("pad", "bos", "eos", "cls", "sep")
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}


def _state_attention(config: PreTrainedConfig, spec: ModelSpec) -> None:
    """Write the attention mode where transformers, and whoever loads the export, will read it."""
    config.use_cache = False
    config.is_causal = spec.attention == "causal"
    if getattr(config, "attention_type", None) == "block_sparse":
        log.warning("%s: full attention instead of block-sparse, which looks at the batch", config.model_type)
        config.attention_type = "original_full"  # BigBird's, of one kind for all from the first short text on


@torch.no_grad()
def _init_bag_of_words(backbone: PreTrainedModel) -> None:
    """Start near a bag of words: token embeddings of unit variance, every block nearly silent.

    The blocks keep 1 % of their scale instead of zero, so that the attention check still sees them.
    """
    cast(nn.Embedding, backbone.get_input_embeddings()).weight.normal_()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("o_proj", "down_proj")):
            module.weight.mul_(0.01)


def unbuildable(spec: ModelSpec, error: Exception) -> UserError:
    """What transformers said of settings that do not go together."""
    what = "model.architecture" if is_random(spec) else f"the model at {spec.path}"
    kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
    return UserError(f"{what} cannot be built: {kind}{error}")


def not_to_be_had(spec: ModelSpec, what: str, path: str, error: Exception) -> UserError:
    """One clear error for a model or tokenizer that is not to be had, with the ways on."""
    reason = " ".join(str(error).split())[:200]
    if not isinstance(error, OSError | ValueError | RuntimeError | ImportError):
        reason = f"{type(error).__name__}: {reason}"
    if "trust_remote_code" in str(error):
        return UserError(
            f"{path} brings its own Python code; read it, then allow it with model.trust_remote_code=true"
        )
    if isinstance(error, pickle.UnpicklingError):
        return UserError(
            f"{path}: the weights are a pickle with more than tensors in it, and were not opened"
        )
    if Path(path).is_dir():
        check_json(Path(path) / (spec.subfolder if path == spec.path else ""))
        return UserError(f"cannot load a {what} from the folder {path}: {reason}")
    ways = [f"model.{'path' if path == spec.path else 'tokenizer'}=FOLDER", "model=youtu_tiny"]
    if spec.architecture and spec.path is not None:
        ways.insert(1, "model.weights=random")
    return UserError(
        f"model={spec.name} needs {path!r}, which is neither a local folder nor to be had from the hub "
        f"({reason}). Ways on: {', '.join(ways)}"
    )
