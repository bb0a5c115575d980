"""Build an encoder from a ModelSpec: a folder, a hub id, or random weights of a stated architecture."""

import logging
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codiemb.encoder.encoder import AttentionMode, Encoder, position_offset
from codiemb.encoder.spec import ModelSpec, with_folder_settings
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.encoder.verify import packing_problem, verify_attention
from codiemb.errors import UserError
from codiemb.pooling import PoolingMode

log = logging.getLogger(__name__)

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
    PromptTemplate(spec.prompt.query, spec.prompt.document)


def load_encoder(spec: ModelSpec) -> Encoder:
    """Build the encoder, check its attention, and find out whether it can run packed.

    Args:
        spec: the model's settings; what a folder at `spec.path` states about itself wins.

    Raises:
        UserError: the model is not to be had, or is not what the settings say.
    """
    check_spec(spec)
    spec, changed = with_folder_settings(spec)
    for change in changed:
        log.info("%s says %s; model.folder_settings=false to overrule", spec.path, change)
    random_weights = spec.weights == "random" or spec.path is None
    tokenizer = _load_tokenizer(spec, spec.fallback_tokenizer if random_weights else None)
    template = PromptTemplate(spec.prompt.query, spec.prompt.document)
    text_tokenizer = TextTokenizer(
        tokenizer, template, pool_prompt=spec.pool_prompt, append_eos=spec.append_eos
    )
    backbone = _random_backbone(spec, tokenizer) if random_weights else _pretrained_backbone(spec)
    encoder = Encoder(
        _with_lora(backbone, spec),
        text_tokenizer,
        pooling=cast(PoolingMode, spec.pooling),
        attention=cast(AttentionMode, spec.attention),
        max_tokens=_longest(spec.max_tokens, backbone),
        middle_layer=_middle_layer(spec.middle_layer, backbone.config),
    )
    problem = packing_problem(encoder)
    if problem is not None:
        encoder.packed = False
        log.warning("%s runs padded, not packed: %s", type(backbone).__name__, problem)
    verify_attention(encoder)
    return encoder


def _load_tokenizer(spec: ModelSpec, fallback: str | None) -> PreTrainedTokenizerFast:
    path = spec.tokenizer or spec.path
    if path is None:
        raise UserError(f"model.tokenizer is not set, and model={spec.name} has no path to take one from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError) as error:
        if fallback is not None:
            log.warning("no tokenizer at %r; using %s (the weights are random anyway)", path, fallback)
            return cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(fallback))
        raise _missing(spec, path, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer at {path!r} is a slow one, without character offsets: unsupported")
    return cast(PreTrainedTokenizerFast, tokenizer)


def _pretrained_backbone(spec: ModelSpec) -> PreTrainedModel:
    path = cast(str, spec.path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
        _state_attention(config, spec)
        backbone = AutoModel.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=spec.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise _missing(spec, path, error) from error
    _freeze_pooler(backbone)
    return backbone


def _random_backbone(spec: ModelSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    settings = dict(spec.architecture)
    model_type = settings.pop("model_type", None)
    if model_type is None:
        raise UserError("model.architecture.model_type is missing; example: model_type: youtu")
    if "vocab_size" not in settings:
        settings |= {"vocab_size": len(tokenizer), **_special_ids(tokenizer)}
    config = AutoConfig.for_model(model_type, **settings)
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
    _freeze_pooler(backbone)
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
    """BERT's pooler is not on the way to any embedding; DDP must not wait for its gradient."""
    pooler = getattr(backbone, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)


def _with_lora(backbone: PreTrainedModel, spec: ModelSpec) -> PreTrainedModel:
    if spec.lora.r == 0:
        return backbone
    lora = LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.lora_alpha,
        lora_dropout=spec.lora.lora_dropout,
        target_modules=spec.lora.target_modules,
    )
    return cast(PreTrainedModel, get_peft_model(backbone, lora))


def _longest(max_tokens: int, backbone: PreTrainedModel) -> int:
    """The model's own limit on positions caps the configured one (RoBERTa loses two to its offset)."""
    limit = getattr(backbone.config, "max_position_embeddings", None)
    return max_tokens if limit is None else min(max_tokens, limit - position_offset(backbone))


def _middle_layer(setting: str | None, config: PreTrainedConfig) -> int | None:
    """`middle` is hidden_states[len // 2], as the released code takes it (method.md section 3)."""
    if setting is None:
        return None
    num_layers: int = config.num_hidden_layers
    layer = (num_layers + 1) // 2 if setting == "middle" else int(setting)
    if not 0 <= layer <= num_layers:
        raise UserError(f"model.middle_layer={setting} is outside 0..{num_layers}")
    return layer


def _missing(spec: ModelSpec, path: str, error: Exception) -> UserError:
    """One clear error for a model that is not to be had, with the ways on."""
    reason = str(error).strip().splitlines()[0][:200]
    if Path(path).is_dir():
        return UserError(f"cannot load a model from the folder {path}: {reason}")
    ways = ["model.path=LOCAL_FOLDER", "model=youtu_tiny"]
    if spec.architecture:
        ways.insert(1, "model.weights=random")
    return UserError(
        f"model={spec.name} needs {path!r}, which is neither a local folder nor to be had from the hub "
        f"({reason}). Ways on: {', '.join(ways)}"
    )
