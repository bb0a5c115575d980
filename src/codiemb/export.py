"""Write a trained encoder as a folder for sentence-transformers and transformers, and prove it equal."""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from transformers import PreTrainedModel

from codiemb.atomic import written_whole
from codiemb.encoder.encoder import Backbone, Encoder
from codiemb.encoder.folder_settings import SETTINGS_FILE

log = logging.getLogger(__name__)

_PROBES = (
    "How do I reset my password?",
    "余额不足，转账失败怎么办？",
    "Returns the indices of the maximum values along an axis. Ties are broken arbitrarily; see `argmax`.",
)
_MODULES = (
    ("0", "", "sentence_transformers.models.Transformer"),
    ("1", "1_Pooling", "sentence_transformers.models.Pooling"),
    ("2", "2_Normalize", "sentence_transformers.models.Normalize"),
)


def export_sentence_transformer(
    encoder: Encoder,
    folder: str | Path,
    *,
    query_instruction: str,
    instructions: Mapping[str, str] | None = None,
) -> Path:
    """Write weights, tokenizer, pooling and prompts; whole or not at all (temporary name, then renamed).

    Args:
        encoder: LoRA adapters are merged in a copy; its settings are recorded, so that our own loader
            embeds the same way.
        folder: replaced if it exists.
        query_instruction: what `encode_query` uses.
        instructions: further instructions by prompt name, for `encode(..., prompt_name=NAME)`.

    Returns:
        The folder.
    """
    folder = Path(folder)
    with written_whole(folder) as temporary:
        _merged(encoder.backbone).save_pretrained(temporary)
        _save_tokenizer(encoder, temporary)
        _write_modules(encoder, temporary)
        template = encoder.tokenizer.template
        prompts = {name: template.prompt(text, "query") for name, text in (instructions or {}).items()}
        prompts |= {"query": template.prompt(query_instruction, "query"), "document": template.prompt()}
        _write_json(
            temporary / "config_sentence_transformers.json",
            {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
        )
        _write_json(
            temporary / SETTINGS_FILE,
            {
                "model": _settings(encoder),
                "query_instruction": query_instruction,
                "instructions": dict(instructions or {}),
            },
        )
    _warn_of_straddling(encoder, [query_instruction, *(instructions or {}).values()])
    return folder


def export_cosine(
    encoder: Encoder,
    folder: str | Path,
    *,
    query_instruction: str,
    texts: Sequence[str] = _PROBES,
    trust_remote_code: bool = False,
) -> float:
    """Smallest cosine between the trainer's embeddings and the exported folder's, queries and documents.

    Loads the folder through sentence-transformers as a user does. Promise: above 1 - 1e-6 in fp32.
    """
    from sentence_transformers import SentenceTransformer  # slow to import, and only the export needs it

    device = next(encoder.backbone.parameters()).device
    model = SentenceTransformer(str(folder), device=str(device), trust_remote_code=trust_remote_code)
    pairs = (
        (
            encoder.encode(texts, instruction=query_instruction, side="query"),
            model.encode_query(list(texts), show_progress_bar=False),
        ),
        (encoder.encode(texts, side="document"), model.encode_document(list(texts), show_progress_bar=False)),
    )
    return min(float((ours * np.asarray(theirs)).sum(1).min()) for ours, theirs in pairs)


def _merged(backbone: Backbone) -> PreTrainedModel:
    if isinstance(backbone, PeftModel):
        return copy.deepcopy(backbone).merge_and_unload()
    return backbone


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
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": tokenizer.model_input_names,
    }
    _write_json(path, config)


def _warn_of_straddling(encoder: Encoder, instructions: Sequence[str]) -> None:
    tokenizer = encoder.tokenizer
    if encoder.pooling != "mean" or tokenizer.pool_prompt or not tokenizer.prompt_apart:
        return
    for instruction in dict.fromkeys(instructions):
        if not tokenizer.boundary_is_clean(instruction):
            log.warning(
                "sentence-transformers pools queries with the prompt %r one token off: a token straddles the "
                "end of the prompt. End the prompt differently, or set model.pool_prompt=true",
                tokenizer.template.prompt(instruction, "query"),
            )


def _write_modules(encoder: Encoder, folder: Path) -> None:
    """The oldest spelling of sentence-transformers' files: every release since 2.4 reads it."""
    modules = [{"idx": i, "name": n, "path": p, "type": t} for i, (n, p, t) in enumerate(_MODULES)]
    _write_json(folder / "modules.json", modules)
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_tokens, "do_lower_case": False}
    )
    include_prompt = encoder.pooling != "mean" or encoder.tokenizer.pool_prompt
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
            "include_prompt": include_prompt,
        },
    )
    _write_json(folder / "2_Normalize" / "config.json", {})


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")
