"""What a researcher chose about a model: the schema of the `model` group, and what an export records."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from codiemb.errors import UserError

SETTINGS_FILE = "codiemb.json"
# What a folder on disk knows better than the command line: it was trained with these.
FOLDER_SETTINGS = ("pooling", "attention", "prompt", "pool_prompt", "append_eos", "max_tokens")
_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers, that the encoder can stand for
_OVERRULE = "model.folder_settings=false takes the settings from the config instead"


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
        fallback_tokenizer: stands in, with random weights only, where no other is to be had.
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
        dtype: `float32`, `bfloat16` or `float16`, of the weights. In training of those that stay as they are
            (LoRA) and of DeepSpeed's; others are trained in fp32.
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
    """The spec as its folder records it, and the settings that differ from what the config said.

    Raises:
        UserError: a file cannot be read, or the folder does more than pool and normalise.
    """
    if not spec.folder_settings or spec.path is None or not Path(spec.path).is_dir():
        return spec, []
    stated = _own_settings(Path(spec.path)) or _sentence_transformers_settings(Path(spec.path), spec)
    changed = [
        f"model.{key}={value!r} (config: {asdict(spec)[key]!r})"
        for key, value in stated.items()
        if asdict(spec)[key] != value
    ]
    if "prompt" in stated:
        stated["prompt"] = PromptSpec(**stated["prompt"])
    return replace(spec, **stated), changed


def _own_settings(folder: Path) -> dict[str, Any]:
    stated = _read(folder / SETTINGS_FILE).get("model", {})
    return {key: stated[key] for key in FOLDER_SETTINGS if key in stated}


def _sentence_transformers_settings(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """Pooling, prompts and length limit of a sentence-transformers folder, where it states them."""
    stated: dict[str, Any] = {}
    pooling = _read(folder / "1_Pooling" / "config.json")
    for module in _read(folder / "modules.json", empty=[]):
        kind = str(module["type"]).split(".")[-1]
        if kind not in _MODULES:
            raise UserError(f"{folder} embeds with a module {kind}, which is not supported; {_OVERRULE}")
        if kind == "Pooling":
            pooling = _read(folder / module["path"] / "config.json")
    if pooling:
        stated["pooling"] = _pooling_mode(pooling, folder)
        stated["pool_prompt"] = bool(pooling.get("include_prompt", True))
    if max_tokens := _max_seq_length(folder):
        stated["max_tokens"] = max_tokens
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts") or {}
    if "query" in prompts or "document" in prompts:
        query = prompts.get("query", "")
        template = spec.prompt.query if _is_instance(query, spec.prompt.query) else query
        stated["prompt"] = {"query": template, "document": prompts.get("document", "")}
    return stated


def _max_seq_length(folder: Path) -> int | None:
    """Before version 6 in a file of its own, since then as the tokenizer's limit (1e30 stands for none)."""
    limit = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    if limit is None and (folder / "modules.json").is_file():
        limit = _read(folder / "tokenizer_config.json").get("model_max_length")
    return limit if limit is not None and limit < 10**9 else None


def _is_instance(prompt: str, template: str) -> bool:
    """A stored prompt may be the config's template, filled in with one instruction (Qwen3-Embedding)."""
    head, found, tail = template.partition("{instruction}")
    filled = len(prompt) > len(head + tail) and prompt.startswith(head) and prompt.endswith(tail)
    return bool(found and head and filled)


def _pooling_mode(config: dict[str, Any], folder: Path) -> str:
    """Both spellings: `pooling_mode` of sentence-transformers 6, one flag per mode before."""
    supported = {"mean": "mean", "cls": "cls", "lasttoken": "last_token"}
    modes = config.get("pooling_mode")
    if modes is None:
        flags = [key for key in config if key.startswith("pooling_mode_") and config[key]]
        names = [flag.removeprefix("pooling_mode_") for flag in flags]
        modes = [name.removesuffix("_tokens").removesuffix("_token") for name in names] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in supported:
        raise UserError(f"{folder} pools by {' and '.join(modes)}, which is not supported; {_OVERRULE}")
    return supported[modes[0]]


def _read(path: Path, empty: Any = None) -> Any:  # noqa: ANN401  JSON
    if not path.is_file():
        return {} if empty is None else empty
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {_OVERRULE}") from error
