"""Build an encoder from a ModelSpec: a folder, a hub id, or random weights of a stated architecture."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codiemb.encoder.check import check_path, check_spec, refuse_encoder_decoder
from codiemb.encoder.encoder import AttentionMode, Backbone, Encoder, position_offset
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.pooling import PoolingMode
from codiemb.encoder.rotary import rotary_per_text, scaling_border
from codiemb.encoder.soundness import refuse_nonfinite, refuse_untrained
from codiemb.encoder.spec import ModelSpec
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.encoder.verify import padding_reason
from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable

log = logging.getLogger(__name__)

# What transformers raises for a model that is missing, damaged or not what it says.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, SafetensorError, pickle.UnpicklingError)
# ... and for settings that do not go together; each architecture checks, or stumbles over, its own.
_BUILD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError)


def load_encoder(spec: ModelSpec) -> Encoder:
    """Build the encoder, check its attention, and find out whether it can run packed.

    Args:
        spec: the model's settings; what a folder at `spec.path` states about itself wins.

    Raises:
        UserError: the model is not to be had, or is not what the settings say.
    """
    check_spec(spec)
    check_path(spec)
    spec, changed = with_folder_settings(spec)
    check_spec(spec)
    for change in changed:
        log.info("%s says %s; model.folder_settings=false to overrule", spec.path, change)
    random_weights = spec.weights == "random" or spec.path is None
    config = None if random_weights else _pretrained_config(spec)
    tokenizer = _load_tokenizer(spec, spec.fallback_tokenizer if random_weights else None)
    template = PromptTemplate(spec.prompt.query, spec.prompt.document)
    backbone = _random_backbone(spec, tokenizer) if config is None else _pretrained_backbone(spec, config)
    refuse_encoder_decoder(backbone.config, spec.path or spec.name, backbone)
    max_positions = _max_positions(backbone)
    text_tokenizer = TextTokenizer(
        tokenizer,
        template,
        pool_prompt=spec.pool_prompt,
        append_eos=spec.append_eos,
        max_positions=max_positions,
    )
    trained = _with_lora(backbone, spec)
    _freeze_pooler(backbone)
    encoder = Encoder(
        trained,
        text_tokenizer,
        pooling=cast(PoolingMode, spec.pooling),
        attention=cast(AttentionMode, spec.attention),
        max_tokens=min(spec.max_tokens, max_positions or spec.max_tokens),
        middle_layer=_middle_layer(spec.middle_layer, backbone.config),
    )
    if problem := padding_reason(encoder):
        encoder.packed = False
        log.warning("%s runs padded, not packed: %s", type(backbone).__name__, problem)
    refuse_untrained(encoder)
    if encoder.pooling == "mean" and not spec.pool_prompt and not text_tokenizer.boundary_is_clean():
        log.warning(
            "the tokenizer merges the end of the prompt %r with the text: training and evaluation pool "
            "exactly the text, but sentence-transformers counts the prompt's tokens differently. End the "
            "prompt differently, or set model.pool_prompt=true",
            template.query,
        )
    return encoder


def _load_tokenizer(spec: ModelSpec, fallback: str | None) -> PreTrainedTokenizerFast:
    path = spec.tokenizer or spec.path or fallback
    if path is None:
        raise UserError(f"model.tokenizer is not set, and model={spec.name} has no path to take one from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **source_of(path, spec))
    except _LOAD_ERRORS as error:
        if fallback is not None:
            log.warning("no tokenizer at %r; using %s (the weights are random anyway)", path, fallback)
            return _load_tokenizer(replace(spec, tokenizer=fallback), None)
        raise _missing(spec, "tokenizer", path, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer at {path!r} is a slow one, without character offsets: unsupported")
    return cast(PreTrainedTokenizerFast, tokenizer)


def _pretrained_config(spec: ModelSpec) -> PreTrainedConfig:
    path = cast(str, spec.path)
    try:
        config = AutoConfig.from_pretrained(path, **source_of(path, spec))
    except _LOAD_ERRORS as error:
        raise _missing(spec, "model", path, error) from error
    refuse_encoder_decoder(config, path)
    return cast(PreTrainedConfig, config)


def _pretrained_backbone(spec: ModelSpec, config: PreTrainedConfig) -> PreTrainedModel:
    path = cast(str, spec.path)
    _state_attention(config, spec)
    try:
        source = source_of(path, spec)
        backbone, report = AutoModel.from_pretrained(
            path, config=config, dtype=getattr(torch, spec.dtype), output_loading_info=True, **source
        )
    except _LOAD_ERRORS as error:
        raise _missing(spec, "model", path, error) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} weights of {type(backbone).__name__} ({', '.join(missing[:3])}), "
            "which would stay random: its weights belong to another architecture"
        )
    refuse_nonfinite(backbone, path, spec.dtype)
    return cast(PreTrainedModel, backbone)


def source_of(path: str, spec: ModelSpec) -> dict[str, bool]:
    """From where, and with whose code: local files only if the hub does not answer.

    Without that, huggingface_hub retries for 47 seconds before it says that there is no network.
    """
    local = Path(path).is_dir() or not hub_is_reachable()
    return {"trust_remote_code": spec.trust_remote_code, "local_files_only": local}


def _random_backbone(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    settings = dict(spec.architecture)
    if "vocab_size" not in settings:
        settings |= {"vocab_size": len(tokenizer), **_special_ids(tokenizer)}
    try:
        return _build(settings, tokenizer, spec)
    except _BUILD_ERRORS as error:
        kind = "" if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: "
        raise UserError(f"model.architecture cannot be built: {kind}{error}") from error


def _build(settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, spec: ModelSpec) -> PreTrainedModel:
    config = AutoConfig.for_model(**settings)
    if config.vocab_size < len(tokenizer):
        raise UserError(
            f"model.architecture.vocab_size={config.vocab_size} is smaller than the tokenizer's vocabulary "
            f"({len(tokenizer)}); leave it out to take the tokenizer's"
        )
    _state_attention(config, spec)
    dtype = getattr(torch, spec.dtype)
    backbone = AutoModel.from_config(config, dtype=dtype)
    if spec.init == "bag_of_words":
        _init_bag_of_words(backbone)
    return backbone


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


def _max_positions(backbone: PreTrainedModel) -> int | None:
    """The model's own limit on positions (RoBERTa loses two to its offset).

    A rotary embedding that changes at some length, in code that `rotary_per_text` does not know, ends there:
    beyond, a long text would change the short ones beside it.
    """
    limit: int | None = getattr(backbone.config, "max_position_embeddings", None)
    border = None if rotary_per_text(backbone) else scaling_border(backbone.config)
    if border is not None and border < (limit or border + 1):
        log.warning(
            "texts end at %d tokens: beyond, the rotary scaling of %s looks at the longest text of a batch",
            border,
            type(backbone).__name__,
        )
        limit = border
    return None if limit is None else limit - position_offset(backbone)


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
    reason = str(error).strip().splitlines()[0][:200]
    if "trust_remote_code" in str(error):
        return UserError(
            f"{path} brings its own Python code; read it, then allow it with model.trust_remote_code=true"
        )
    if isinstance(error, pickle.UnpicklingError):
        return UserError(
            f"{path}: the weights are a pickle with more than tensors in it, and were not opened"
        )
    if Path(path).is_dir():
        return UserError(f"cannot load a {what} from the folder {path}: {reason}")
    ways = [f"model.{'path' if path == spec.path else 'tokenizer'}=FOLDER", "model=youtu_tiny"]
    if spec.architecture and spec.path is not None:
        ways.insert(1, "model.weights=random")
    return UserError(
        f"model={spec.name} needs {path!r}, which is neither a local folder nor to be had from the hub "
        f"({reason}). Ways on: {', '.join(ways)}"
    )
