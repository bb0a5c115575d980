"""What a model's folder states about itself: our own record, or the files of sentence-transformers."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codiemb.encoder.adapter import base_of
from codiemb.encoder.model_files import MODULES_FILE, check_parts, inner_folder, is_adapter, settings_folder
from codiemb.encoder.sentence_transformers import OVERRULE, stated_settings
from codiemb.encoder.spec import CHOICES, ModelSpec, PromptSpec
from codiemb.errors import UserError
from codiemb.json_files import FLAG, LENGTH, OBJECT, PROMPTS, TEXT, Kind, read_json, take

SETTINGS_FILE = "codiemb.json"
# What a folder on disk knows better than the command line: it was trained with these.
_KINDS: dict[str, Kind] = {
    "pooling": TEXT,
    "attention": TEXT,
    "prompt": PROMPTS,
    "pool_prompt": FLAG,
    "prompt_apart": FLAG,
    "append_eos": FLAG,
    "max_tokens": LENGTH,
}
FOLDER_SETTINGS = tuple(_KINDS)


def with_folder_settings(spec: ModelSpec) -> tuple[ModelSpec, list[str]]:
    """The spec as its folder records it, and the settings that differ from what the config said.

    A hub id is asked as a folder is: its small files are fetched, or taken from the cache. An adapter that
    states nothing itself has what its base states.

    Raises:
        UserError: a file cannot be read, or the folder does more than pool and normalise.
    """
    folder = settings_folder(spec)
    if folder is None or not spec.folder_settings or (folder / SETTINGS_FILE).is_file():
        _refuse_prompt_names(spec)
    if folder is None:
        return spec, []
    check_parts(folder / inner_folder(folder), f"model.path={spec.path}")
    if not spec.folder_settings:  # where the files lie is no setting
        return replace(spec, subfolder=spec.subfolder or inner_folder(folder)), []
    if is_adapter(folder) and not ((folder / SETTINGS_FILE).is_file() or (folder / MODULES_FILE).is_file()):
        base, changed = with_folder_settings(replace(spec, path=base_of(folder)))
        return replace(base, path=spec.path, subfolder=""), changed
    stated = _own_settings(folder / SETTINGS_FILE) or stated_settings(folder, spec)
    before = asdict(spec)
    changed = [
        f"model.{key}={value!r} (config: {before[key]!r})"
        for key, value in stated.items()
        if before[key] != value
    ]
    if "prompt" in stated:
        stated["prompt"] = PromptSpec(**stated["prompt"])
    return replace(spec, **stated), changed


def _refuse_prompt_names(spec: ModelSpec) -> None:
    for key in ("query_prompt_name", "document_prompt_name"):
        if (name := getattr(spec, key)) is not None:
            raise UserError(
                f"model.{key}={name} chooses among prompts that a folder of sentence-transformers states; "
                f"those of {spec.path or 'a model without a folder'} are not read here. model.prompt is what "
                "stands before texts, for an export of this repository with model.folder_settings=false"
            )


def _own_settings(path: Path) -> dict[str, Any]:
    recorded = take(read_json(path, {}, OVERRULE), "model", OBJECT, path, OVERRULE) or {}
    values = {key: take(recorded, key, kind, path, OVERRULE) for key, kind in _KINDS.items()}
    stated = {key: value for key, value in values.items() if value is not None}
    for key in stated.keys() & CHOICES.keys():
        if stated[key] not in CHOICES[key]:
            raise UserError(
                f"{path}: {key}={stated[key]!r} is none of {', '.join(map(str, CHOICES[key]))}; {OVERRULE}"
            )
    if "prompt" in stated:
        prompt = {key: text or "" for key, text in stated["prompt"].items()}
        if unknown := prompt.keys() - asdict(PromptSpec()).keys():
            raise UserError(f"{path}: prompt.{min(unknown)} is no part of a prompt; {OVERRULE}")
        stated["prompt"] = asdict(PromptSpec()) | prompt
    return stated
