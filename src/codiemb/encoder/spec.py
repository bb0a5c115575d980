"""What a researcher chose about a model: the schema of the `model` group, and what an export records."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SETTINGS_FILE = "codiemb.json"
# What a folder on disk knows better than the command line: it was trained with these.
_FOLDER_SETTINGS = ("pooling", "attention", "prompt", "pool_prompt", "append_eos", "max_tokens")


@dataclass
class PromptSpec:
    """Prompt prefixes: `query` for texts with an instruction, `document` for texts without.

    A `query` without `{instruction}` is a fixed prompt; an empty one ignores instructions (MiniLM).
    """

    query: str = "Instruction: {instruction} \nQuery: "
    document: str = ""


@dataclass
class LoraSpec:
    """LoRA by peft; its fields keep peft's names. Rank `r` 0 trains all weights instead."""

    r: int = 0
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"


@dataclass
class ModelSpec:
    """One entry of the `model` group.

    Attributes:
        name: for tables and logs; never used to dispatch.
        path: local folder or hub id; None builds `architecture` from random weights.
        weights: `pretrained`, `random`, or None for pretrained where there is a path.
        tokenizer: folder or hub id; None means the one at `path`.
        fallback_tokenizer: stands in, with random weights only, where `tokenizer` is not to be had.
        architecture: keyword arguments of the transformers config class, `model_type` included.
        init: `standard` (transformers' own) or `bag_of_words` (unit-variance token embeddings, nearly silent
            layers: the fastest start from random weights, see experiments/LOG.md).
        pooling: `mean`, `cls` or `last_token`.
        attention: `bidirectional` or `causal`; verified on the real model.
        prompt: prompt prefixes.
        pool_prompt: mean pooling covers the prompt as well (E5, BGE) instead of the text only (CoDiEmb).
        append_eos: the tokenizer ends every text with EOS.
        max_tokens: longest text in tokens for evaluation and export, prompt included.
        learning_rate: peak step size that suits this model; the optimizer group reads it.
        middle_layer: layer that MidLayerInfoNCE trains; `middle` is half of the depth, None is off.
        dtype: `float32`, `bfloat16` or `float16`, of the weights.
        lora: train LoRA adapters instead of all weights, if its rank is set.
        trust_remote_code: run Python code that comes with the model.
        folder_settings: take pooling, attention and prompts from the folder at `path` where it states them.
    """

    name: str = "model"
    path: str | None = None
    weights: str | None = None
    tokenizer: str | None = None
    fallback_tokenizer: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    init: str = "standard"
    pooling: str = "mean"
    attention: str = "bidirectional"
    prompt: PromptSpec = field(default_factory=PromptSpec)
    pool_prompt: bool = False
    append_eos: bool = False
    max_tokens: int = 512
    learning_rate: float = 4e-5
    middle_layer: str | None = None
    dtype: str = "float32"
    lora: LoraSpec = field(default_factory=LoraSpec)
    trust_remote_code: bool = False
    folder_settings: bool = True


def with_folder_settings(spec: ModelSpec) -> tuple[ModelSpec, list[str]]:
    """The spec as its folder records it, and the settings that differ from what the config said."""
    if not spec.folder_settings or spec.path is None or not Path(spec.path).is_dir():
        return spec, []
    stated = _own_settings(Path(spec.path)) or _sentence_transformers_settings(Path(spec.path))
    changed = [
        f"model.{key}={value!r} (config: {asdict(spec)[key]!r})"
        for key, value in stated.items()
        if asdict(spec)[key] != value
    ]
    if "prompt" in stated:
        stated["prompt"] = PromptSpec(**stated["prompt"])
    return replace(spec, **stated), changed


def folder_settings(spec: ModelSpec) -> dict[str, Any]:
    """What an export must record so that a later run embeds the same way."""
    return {key: asdict(spec)[key] for key in _FOLDER_SETTINGS}


def _own_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    return json.loads(path.read_text("utf-8"))["model"] if path.is_file() else {}


def _sentence_transformers_settings(folder: Path) -> dict[str, Any]:
    """Pooling, prompt pooling and length limit of a sentence-transformers folder."""
    stated: dict[str, Any] = {}
    pooling_file = folder / "1_Pooling" / "config.json"
    if pooling_file.is_file():
        config = json.loads(pooling_file.read_text("utf-8"))
        stated["pooling"] = _pooling_mode(config)
        stated["pool_prompt"] = bool(config.get("include_prompt", True))
    length_file = folder / "sentence_bert_config.json"
    if length_file.is_file():
        max_tokens = json.loads(length_file.read_text("utf-8")).get("max_seq_length")
        stated |= {"max_tokens": max_tokens} if max_tokens else {}
    prompts_file = folder / "config_sentence_transformers.json"
    if prompts_file.is_file():
        prompts = json.loads(prompts_file.read_text("utf-8")).get("prompts") or {}
        stated["prompt"] = {"query": prompts.get("query", ""), "document": prompts.get("document", "")}
    return stated


def _pooling_mode(config: dict[str, Any]) -> str:
    """Both spellings: `pooling_mode` of sentence-transformers 6, one flag per mode before."""
    modern = {"mean": "mean", "cls": "cls", "lasttoken": "last_token"}
    if isinstance(config.get("pooling_mode"), str):
        return modern.get(config["pooling_mode"], config["pooling_mode"])
    flags = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last_token",
    }
    return next((mode for flag, mode in flags.items() if config.get(flag)), "mean")
