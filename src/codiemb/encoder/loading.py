"""Build an encoder from a ModelSpec: a folder, a hub id, or random weights of a stated architecture."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codiemb.encoder.adapter import merge_adapter, split_adapter
from codiemb.encoder.check import check_path, check_spec, warn_of_backslashes
from codiemb.encoder.encoder import AttentionMode, Backbone, Encoder, position_offset
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.model_files import check_json
from codiemb.encoder.pooling import PoolingMode
from codiemb.encoder.spec import ModelSpec
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.encoder.tokenizer_parts import check_vocabulary, lower_case, set_padding_token
from codiemb.encoder.verify import packing_problem, verify_attention
from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable

log = logging.getLogger(__name__)


def load_tokenizer(spec: ModelSpec) -> TextTokenizer:
    """The model's tokenizer with its prompts and its limit on positions; reads no weights.

    Raises:
        UserError: the tokenizer is not to be had, or the settings are impossible.
    """
    spec, _ = _with_settings(spec)
    warn_of_backslashes(spec)
    spec, _ = split_adapter(spec)
    tokenizer = _load_tokenizer(spec, spec.fallback_tokenizer if _is_random(spec) else None)
    return TextTokenizer(
        tokenizer,
        PromptTemplate(**vars(spec.prompt)),
        pool_prompt=spec.pool_prompt,
        prompt_apart=spec.prompt_apart,
        append_eos=spec.append_eos,
        max_positions=_max_positions(_config(spec, tokenizer), spec),
    )


def load_encoder(
    spec: ModelSpec, tokenizer: TextTokenizer | None = None, *, max_tokens_per_chunk: int | None = None
) -> Encoder:
    """Build the encoder, check its attention, and find out whether it can run packed.

    Args:
        spec: the model's settings; what a folder at `spec.path` states about itself wins.
        tokenizer: of `load_tokenizer(spec)`, where that has been needed before.
        max_tokens_per_chunk: as in Encoder.

    Raises:
        UserError: the model is not to be had, or is not what the settings say.
    """
    tokenizer = tokenizer or load_tokenizer(spec)
    spec, changed = _with_settings(spec)
    for change in changed:
        log.info("%s says %s; model.folder_settings=false to overrule", spec.path, change)
    spec, adapter = split_adapter(spec)
    config = _config(spec, tokenizer.hf)
    backbone = _random_backbone(config, spec) if _is_random(spec) else _pretrained_backbone(config, spec)
    check_vocabulary(tokenizer.hf, backbone, spec.tokenizer or spec.path or spec.name)
    backbone = backbone if adapter is None else merge_adapter(backbone, adapter)
    trained = _with_lora(backbone, spec)
    _freeze_pooler(backbone)
    encoder = Encoder(
        trained,
        tokenizer,
        pooling=cast(PoolingMode, spec.pooling),
        attention=cast(AttentionMode, spec.attention),
        max_tokens=min(spec.max_tokens, tokenizer.max_positions or spec.max_tokens),
        middle_layer=_middle_layer(spec.middle_layer, backbone.config),
        max_tokens_per_chunk=max_tokens_per_chunk,
    )
    problem = packing_problem(encoder)
    if problem is not None:
        encoder.packed = False
        log.warning("%s runs padded, not packed: %s", type(backbone).__name__, problem)
    verify_attention(encoder)
    _warn_of_straddling(encoder)
    return encoder


def _with_settings(spec: ModelSpec) -> tuple[ModelSpec, list[str]]:
    """The spec as its folder has it, checked before and after; and what the folder changed."""
    check_spec(spec)
    check_path(spec)
    spec, changed = with_folder_settings(spec)
    check_spec(spec)
    return spec, changed


def _is_random(spec: ModelSpec) -> bool:
    return spec.weights == "random" or spec.path is None


def _warn_of_straddling(encoder: Encoder) -> None:
    tokenizer = encoder.tokenizer
    pools_text = encoder.pooling == "mean" and tokenizer.prompt_apart and not tokenizer.pool_prompt
    if pools_text and not tokenizer.boundary_is_clean():
        log.warning(
            "the tokenizer merges the end of the prompt %r with the text: training and evaluation pool "
            "exactly the text, but sentence-transformers counts the prompt's tokens differently. End the "
            "prompt differently, or set model.pool_prompt=true",
            tokenizer.template.query,
        )


def _load_tokenizer(spec: ModelSpec, fallback: str | None) -> PreTrainedTokenizerFast:
    path = spec.tokenizer or spec.path or fallback
    if path is None:
        raise UserError(f"model.tokenizer is not set, and model={spec.name} has no path to take one from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **source_of(path, spec))
    except Exception as error:  # damaged files make libraries fall over in any way
        if fallback is not None:
            log.warning("no tokenizer at %r; using %s (the weights are random anyway)", path, fallback)
            return _load_tokenizer(replace(spec, tokenizer=fallback), None)
        raise _missing(spec, "tokenizer", path, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer at {path!r} is a slow one, without character offsets: unsupported")
    fast = cast(PreTrainedTokenizerFast, tokenizer)
    set_padding_token(fast)
    if spec.lower_case:
        lower_case(fast)
    return fast


def _config(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The architecture: as the model's folder or the hub has it, or as `spec.architecture` states it."""
    if _is_random(spec):
        config = _stated_config(spec, tokenizer)
    else:
        path = cast(str, spec.path)
        try:
            config = AutoConfig.from_pretrained(path, **source_of(path, spec))
        except Exception as error:  # damaged files make libraries fall over in any way
            raise _missing(spec, "model", path, error) from error
    _state_attention(config, spec)
    return config


def _pretrained_backbone(config: PreTrainedConfig, spec: ModelSpec) -> PreTrainedModel:
    path = cast(str, spec.path)
    try:
        backbone, report = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, spec.dtype),
            output_loading_info=True,
            **source_of(path, spec),
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as above
        raise _missing(spec, "model", path, error) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} weights of {type(backbone).__name__} ({', '.join(missing[:3])}), "
            "which would stay random: its weights belong to another architecture"
        )
    return backbone


def source_of(path: str, spec: ModelSpec) -> dict[str, Any]:
    """From where, and with whose code: local files only if the hub does not answer.

    Without that, huggingface_hub retries for 47 seconds before it says that there is no network.
    """
    local = Path(path).is_dir() or not hub_is_reachable()
    place = {"subfolder": spec.subfolder} if path == spec.path and spec.subfolder else {}
    return {"trust_remote_code": spec.trust_remote_code, "local_files_only": local, **place}


def _stated_config(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    settings = dict(spec.architecture)
    if "vocab_size" not in settings:
        settings |= {"vocab_size": len(tokenizer), **_special_ids(tokenizer)}
    try:
        config = AutoConfig.for_model(**settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise UserError(f"model.architecture cannot be built: {error}") from error
    if config.vocab_size < len(tokenizer):
        raise UserError(
            f"model.architecture.vocab_size={config.vocab_size} is smaller than the tokenizer's vocabulary "
            f"({len(tokenizer)}); leave it out to take the tokenizer's"
        )
    return config


def _random_backbone(config: PreTrainedConfig, spec: ModelSpec) -> PreTrainedModel:
    try:
        backbone = AutoModel.from_config(config, dtype=getattr(torch, spec.dtype))
    except (ValueError, TypeError) as error:
        raise UserError(f"model.architecture cannot be built: {error}") from error
    if spec.init == "bag_of_words":
        _init_bag_of_words(backbone)
    return backbone


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    names = ("pad", "bos", "eos", "cls", "sep")
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}


def _state_attention(config: PreTrainedConfig, spec: ModelSpec) -> None:
    """Write the attention mode where transformers, and whoever loads the export, will read it."""
    config.use_cache = False
    if not getattr(config, "is_encoder_decoder", False):
        config.is_causal = spec.attention == "causal"


@torch.no_grad()
def _init_bag_of_words(backbone: PreTrainedModel) -> None:
    """Start near a bag of words: token embeddings of unit variance, every block nearly silent.

    The blocks keep 1 % of their scale instead of zero, so that the attention check still sees them.
    """
    cast(nn.Embedding, backbone.get_input_embeddings()).weight.normal_()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("o_proj", "down_proj")):
            module.weight.mul_(0.01)


def _freeze_pooler(backbone: PreTrainedModel) -> None:
    """BERT's pooler is not on the way to any embedding; DDP must not wait for its gradient, or its LoRA's."""
    pooler = getattr(backbone, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)


def _with_lora(backbone: PreTrainedModel, spec: ModelSpec) -> Backbone:
    if spec.lora.r == 0:
        return backbone
    lora = LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.lora_alpha,
        lora_dropout=spec.lora.lora_dropout,
        target_modules=spec.lora.target_modules,
    )
    try:
        return cast(PeftModel, get_peft_model(backbone, lora))
    except ValueError as error:
        raise UserError(f"model.lora: {error}") from error


def _max_positions(config: PreTrainedConfig, spec: ModelSpec) -> int | None:
    """The model's own limit on positions (RoBERTa loses two to its offset)."""
    limit: int | None = getattr(config, "max_position_embeddings", None)
    if limit is None:
        return None
    try:
        with torch.device("meta"):  # modules without memory: the offset is seen before any weight is read
            skeleton = AutoModel.from_config(config, trust_remote_code=spec.trust_remote_code)
    except (ValueError, TypeError) as error:
        what = "model.architecture" if _is_random(spec) else f"the model at {spec.path}"
        raise UserError(f"{what} cannot be built: {error}") from error
    return limit - position_offset(skeleton)


def _middle_layer(setting: str | None, config: PreTrainedConfig) -> int | None:
    """`middle` is hidden_states[len // 2], as the released code takes it (docs/method.md section 3)."""
    if setting is None:
        return None
    num_layers: int = config.num_hidden_layers
    layer = (num_layers + 1) // 2 if setting == "middle" else int(setting)
    if not 0 <= layer <= num_layers:
        raise UserError(f"model.middle_layer={setting} is outside 0..{num_layers}")
    return layer


def _missing(spec: ModelSpec, what: str, path: str, error: Exception) -> UserError:
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
