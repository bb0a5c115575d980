"""Write a trained encoder as a folder for sentence-transformers and transformers."""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedModel

from codiemb.atomic import write_text, written_whole
from codiemb.encoder.encoder import Backbone, Encoder
from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.export import consumers
from codiemb.export.card import Card, write_card
from codiemb.export.verify import has_own_code
from codiemb.text_encoder import Side

log = logging.getLogger(__name__)

_AFTER_THE_MODEL = (
    ("1", "1_Pooling", "sentence_transformers.models.Pooling"),
    ("2", "2_Normalize", "sentence_transformers.models.Normalize"),
)


def export_sentence_transformer(
    encoder: Encoder,
    folder: str | Path,
    *,
    query_instruction: str,
    instructions: Mapping[str, str] | None = None,
    by_task: Mapping[str, tuple[str, Side]] | None = None,
    dtype: str | None = None,
    card: Card | None = None,
) -> Path:
    """Write weights, tokenizer, pooling and prompts; whole or not at all (temporary name, then renamed).

    Args:
        encoder: LoRA adapters are merged in a copy; its settings are recorded, so that our own loader
            embeds the same way.
        folder: replaced if it exists.
        query_instruction: what `encode_query` uses.
        instructions: further instructions by prompt name, for `encode(..., prompt_name=NAME)`.
        by_task: instruction and side by the names that mteb looks for (`evaluation.mteb_prompts`).
        dtype: of the weights; None leaves them as they are.
        card: what README.md shall say beyond what can be read from the folder.

    Returns:
        The folder.
    """
    folder, card = Path(folder), card or Card()
    given: dict[str, tuple[str, Side]] = {
        name: (text, "query") for name, text in (instructions or {}).items()
    }
    given |= by_task or {}
    with written_whole(folder) as temporary:
        _as_written(encoder.backbone, dtype).save_pretrained(temporary)
        _save_tokenizer(encoder, temporary)
        template = encoder.tokenizer.template
        prompts = {name: template.prompt(text, side) for name, (text, side) in given.items()}
        prompts |= {"query": template.prompt(query_instruction, "query"), "document": template.prompt()}
        _write_for_consumers(encoder, temporary, prompts, card.matryoshka_dims)
        _write_json(
            temporary / SETTINGS_FILE,
            {
                "model": _settings(encoder),
                "query_instruction": query_instruction,
                "instructions": dict(instructions or {}),
            },
        )
        write_card(temporary, card)
    _warn_of_straddling(encoder, [query_instruction, *(text for text, _ in given.values() if text)])
    return folder


def _as_written(backbone: Backbone, dtype: str | None) -> PreTrainedModel:
    """Adapters merged and in the wanted dtype: a copy where that changes anything, for training may go on."""
    wanted = backbone.dtype if dtype is None else getattr(torch, dtype)
    if isinstance(backbone, PeftModel):
        merged: PreTrainedModel = copy.deepcopy(backbone).merge_and_unload()
        return _cast(merged, wanted)
    return backbone if backbone.dtype == wanted else _cast(copy.deepcopy(backbone), wanted)


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    module: torch.nn.Module = model  # the class annotates its own `to` otherwise
    module.to(dtype)
    return model


def _settings(encoder: Encoder) -> dict[str, Any]:
    """What a later run must know to embed the same way: the encoder's own, whatever its config said.

    What few models have is left out where a model does not have it, so that older exports compare as equal.
    """
    prompt = asdict(encoder.tokenizer.template)
    if not prompt["instruction"]:
        del prompt["instruction"]
    apart = {} if encoder.tokenizer.prompt_apart else {"prompt_apart": False}
    return {
        "pooling": encoder.pooling,
        "attention": encoder.attention,
        "prompt": prompt,
        "pool_prompt": encoder.tokenizer.pool_prompt,
        **apart,
        "append_eos": encoder.tokenizer.append_eos,
        "max_tokens": encoder.max_tokens,
    }


def _save_tokenizer(encoder: Encoder, folder: Path) -> None:
    """Save the tokenizer such that it loads as it is.

    transformers 5 rebuilds a tokenizer of a named class (Qwen2Tokenizer, ...) from its vocabulary and drops
    our pre-tokenizer, and rebuilds the post-processor where `add_*_token` is stated; the plain fast class
    without these loads tokenizer.json as written.
    """
    tokenizer = copy.deepcopy(encoder.tokenizer.hf)
    tokenizer.model_max_length = encoder.max_tokens
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    for key in ("add_bos_token", "add_eos_token", "auto_map"):
        config.pop(key, None)
    config = consumers.tokenizer_for_consumers(config) | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": tokenizer.model_input_names,
    }
    _write_json(path, config)
    if _loads_as_written(encoder, folder):
        return
    if has_own_code(folder):
        log.warning(
            "transformers will rebuild this tokenizer when it loads it, and cut texts after a prompt into "
            "other tokens than the trainer: a model.prompt.query that ends in a line break may avoid that"
        )
    else:
        _write_json(path, config | consumers.KEEP_TOKENIZER_CLASS)


def _loads_as_written(encoder: Encoder, folder: Path) -> bool:
    """Whether transformers takes the class that we state; for some model types it insists on another."""
    again = AutoTokenizer.from_pretrained(
        folder, config=encoder.backbone.config, trust_remote_code=False, local_files_only=True
    )
    pairs = [json.loads(t.backend_tokenizer.to_str()) for t in (again, encoder.tokenizer.hf)]
    return all(pairs[0][key] == pairs[1][key] for key in ("normalizer", "pre_tokenizer", "post_processor"))


def _warn_of_straddling(encoder: Encoder, instructions: Sequence[str]) -> None:
    tokenizer = encoder.tokenizer
    if _prompt_is_pooled(encoder) or not tokenizer.prompt_apart:
        return
    for instruction in dict.fromkeys(instructions):
        if not tokenizer.boundary_is_clean(instruction):
            log.warning(
                "sentence-transformers pools queries with the prompt %r one token off: a token straddles the "
                "end of the prompt. End the prompt differently, or set model.pool_prompt=true",
                tokenizer.template.prompt(instruction, "query"),
            )


def _write_for_consumers(
    encoder: Encoder, folder: Path, prompts: Mapping[str, str], matryoshka_dims: Sequence[int]
) -> None:
    """config.json and sentence-transformers' files, such that every release embeds the same or refuses."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    survives = consumers.survives_stripping(
        encoder.tokenizer.hf, prompts.values(), prompt_is_pooled=_prompt_is_pooled(encoder)
    )
    for refusal in consumers.refusals(config, encoder.attention, survives_stripping=survives):
        log.info("the export needs %s", refusal)
    spelled = consumers.config_for_consumers(config, encoder.attention, matryoshka_dims)
    _write_json(folder / "config.json", spelled)
    _write_json(
        folder / "config_sentence_transformers.json",
        consumers.requirements(config, encoder.attention)
        | {"prompts": dict(prompts), "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    _write_modules(encoder, folder, consumers.transformer_module(survives_stripping=survives))


def _prompt_is_pooled(encoder: Encoder) -> bool:
    return encoder.pooling != "mean" or encoder.tokenizer.pool_prompt


def _write_modules(encoder: Encoder, folder: Path, transformer: str) -> None:
    """The oldest spelling of sentence-transformers' files, but for the class of the model where need be."""
    rows = (("0", "", transformer), *_AFTER_THE_MODEL)
    modules = [{"idx": i, "name": n, "path": p, "type": t} for i, (n, p, t) in enumerate(rows)]
    _write_json(folder / "modules.json", modules)
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_tokens, "do_lower_case": False}
    )
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": encoder.backbone.config.hidden_size,
            "pooling_mode_cls_token": encoder.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": encoder.pooling == "last_token",
            "include_prompt": _prompt_is_pooled(encoder),
        },
    )
    _write_json(folder / "2_Normalize" / "config.json", {})


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
