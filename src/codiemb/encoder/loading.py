"""Build an encoder from a ModelSpec: a folder, a hub id, or random weights of a stated architecture."""

import logging
from dataclasses import replace
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codiemb.encoder.adapter import merge_adapter, split_adapter
from codiemb.encoder.attention import position_offset
from codiemb.encoder.backbone import (
    BUILD_ERRORS,
    architecture_of,
    is_random,
    not_to_be_had,
    pretrained_backbone,
    random_backbone,
    source_of,
    unbuildable,
)
from codiemb.encoder.check import check_spec, refuse_encoder_decoder, warn_of_backslashes
from codiemb.encoder.encoder import AttentionMode, Backbone, Encoder
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.native import is_native, native_config
from codiemb.encoder.pairs_probe import check_native
from codiemb.encoder.path_check import check_path
from codiemb.encoder.pooling import PoolingMode
from codiemb.encoder.remote_code import may_run_code
from codiemb.encoder.rotary import rotary_per_text, scaling_border
from codiemb.encoder.soundness import refuse_untrained
from codiemb.encoder.spec import ModelSpec
from codiemb.encoder.tokenization import PromptTemplate, TextTokenizer
from codiemb.encoder.tokenizer_parts import (
    check_vocabulary,
    cut_at_the_end,
    lower_case,
    set_padding_token,
)
from codiemb.encoder.verify import padding_reason
from codiemb.errors import UserError

log = logging.getLogger(__name__)


def load_tokenizer(spec: ModelSpec) -> TextTokenizer:
    """The model's tokenizer with its prompts and its limit on positions; reads no weights.

    Raises:
        UserError: the tokenizer is not to be had, or the settings are impossible.
    """
    spec, _ = _with_settings(spec)
    warn_of_backslashes(spec)
    spec, _ = split_adapter(spec)
    # the architecture first: what is no text encoder may have no tokenizer that can be read, either
    config = None if is_random(spec) else architecture_of(spec, None)
    tokenizer = _load_tokenizer(spec, spec.fallback_tokenizer if is_random(spec) else None)
    config = config or architecture_of(spec, tokenizer)
    return TextTokenizer(
        tokenizer,
        PromptTemplate(**vars(spec.prompt)),
        pool_prompt=spec.pool_prompt,
        prompt_apart=spec.prompt_apart,
        append_eos=spec.append_eos,
        max_positions=_max_positions(config, spec),
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
    if changed:
        log.info(
            "%s says %s, and so it runs; model.folder_settings=false takes the config's",
            spec.path,
            ", ".join(changed),
        )
    spec, adapter = split_adapter(spec)
    config = architecture_of(spec, tokenizer.hf)
    backbone = random_backbone(config, spec) if is_random(spec) else pretrained_backbone(config, spec)
    check_vocabulary(tokenizer.hf, backbone, spec.tokenizer or spec.path or spec.name)
    backbone = backbone if adapter is None else merge_adapter(backbone, adapter)
    rotary_per_text(backbone)
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
    if problem := padding_reason(encoder):
        encoder.packed = False
        log.warning("%s runs padded, not packed: %s", type(backbone).__name__, problem)
    if is_native(spec):
        check_native(encoder, spec)
    refuse_untrained(encoder)
    _warn_of_straddling(encoder)
    return encoder


def _with_settings(spec: ModelSpec) -> tuple[ModelSpec, list[str]]:
    """The spec as its folder has it, checked before and after; and what the folder changed."""
    check_spec(spec)
    check_path(spec)
    spec, changed = with_folder_settings(spec)
    check_spec(spec)
    return spec, changed


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
        with may_run_code(spec):
            tokenizer = AutoTokenizer.from_pretrained(
                path, **source_of(path, spec), **_config_for(path, spec)
            )
    except Exception as error:  # damaged files make libraries fall over in any way
        if fallback is not None and path == fallback:
            raise UserError(f"no tokenizer at {fallback}; `make data` prepares it") from error
        if fallback is not None:
            log.warning("no tokenizer at %r; using %s (the weights are random anyway)", path, fallback)
            return _load_tokenizer(replace(spec, tokenizer=fallback), None)
        raise not_to_be_had(spec, "tokenizer", path, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer at {path!r} is a slow one, without character offsets: unsupported")
    fast = cast(PreTrainedTokenizerFast, tokenizer)
    set_padding_token(fast)
    cut_at_the_end(fast)
    if spec.lower_case:
        lower_case(fast)
    return fast


def _config_for(path: str, spec: ModelSpec) -> dict[str, PreTrainedConfig]:
    """Of a native model: transformers would ask for its own, which takes its code."""
    return {"config": native_config(spec)} if is_native(spec) and path == spec.path else {}


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
    """The model's own limit on positions (RoBERTa loses two to its offset).

    A rotary embedding that changes at some length, in code that `rotary_per_text` does not know, ends there:
    beyond, a long text would change the short ones beside it.
    """
    try:
        with (
            torch.device("meta"),
            may_run_code(spec),
        ):  # modules without memory: all of this is seen before any weight is read
            skeleton = AutoModel.from_config(config, trust_remote_code=spec.trust_remote_code)
    except BUILD_ERRORS as error:
        raise unbuildable(spec, error) from error
    refuse_encoder_decoder(config, spec.path or spec.name, skeleton)
    limit: int | None = getattr(config, "max_position_embeddings", None)
    border = None if rotary_per_text(skeleton) else scaling_border(config)
    if border is not None and border < (limit or border + 1):
        log.warning(
            "texts end at %d tokens: beyond, the rotary scaling of %s looks at the longest text of a batch",
            border,
            type(skeleton).__name__,
        )
        limit = border
    return None if limit is None else limit - position_offset(skeleton)


def _middle_layer(setting: str | None, config: PreTrainedConfig) -> int | None:
    """`middle` is hidden_states[len // 2], as the released code takes it (docs/method.md section 3)."""
    if setting is None:
        return None
    num_layers: int = config.num_hidden_layers
    layer = (num_layers + 1) // 2 if setting == "middle" else int(setting)
    if not 0 <= layer <= num_layers:
        raise UserError(f"model.middle_layer={setting} is outside 0..{num_layers}")
    return layer
