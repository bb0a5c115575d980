"""What a model's folder states about itself: our own record, or the files of sentence-transformers."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codiemb.encoder.spec import ModelSpec, PromptSpec
from codiemb.errors import UserError

SETTINGS_FILE = "codiemb.json"
# What a folder on disk knows better than the command line: it was trained with these.
FOLDER_SETTINGS = ("pooling", "attention", "prompt", "pool_prompt", "append_eos", "max_tokens")
_MODULES = {"Transformer", "Pooling", "Normalize"}  # of sentence-transformers, that the encoder can stand for
_OVERRULE = "model.folder_settings=false takes the settings from the config instead"


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
