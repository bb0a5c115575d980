"""What results were made with, as flat text: every key that a file beside them records, none by name.

So a setting that a later version records is compared without a change here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from codiemb.errors import UserError
from codiemb.json_files import read_json, read_jsonl
from codiemb.result_folder import RAN_FILE

Settings = dict[str, str]
# of a task's entry: its name, and what comes out of it
_OUTCOMES = ("task", "type", "score", "bm25", "metrics", "seconds", "num_texts", "num_cut")
_NOT_CHOSEN = ("command", "earlier", "git_dirty")  # of environment.json
_PLACES = ("run_dir",)  # of config.yaml
_META = (  # of mteb's model_meta.json: what bears on a score; the rest is licence, languages and links
    *("max_tokens", "embed_dim", "n_parameters", "similarity_fn_name"),
    *("loader", "loader_kwargs", "use_instructions", "experiment_kwargs"),
)


def our_settings(record: Mapping[str, Any], folder: Path) -> Settings:
    """Of results.json without its tasks, and of config.yaml and environment.json of its run."""
    run = folder.parent if folder.name == "evaluation" else folder
    head = {key: value for key, value in record.items() if key not in ("results", "missing", "pending")}
    environment = read_json(run / "environment.json", {})
    environment = {key: value for key, value in environment.items() if key not in _NOT_CHOSEN}
    config = _yaml(run / RAN_FILE) or _yaml(run / "config.yaml")
    config = {key: value for key, value in config.items() if key not in _PLACES}
    return flat(head) | flat(environment, "environment.") | flat(config, "config.")


def task_settings(row: Mapping[str, Any]) -> Settings:
    """Of a task's entry in results.json: whatever is recorded beside its outcomes."""
    return flat({key: value for key, value in row.items() if key not in _OUTCOMES})


def meta_settings(folders: Iterable[Path]) -> Settings:
    """Of mteb's model_meta.json in each folder; the last one's where they differ."""
    merged: Settings = {}
    for folder in folders:
        meta = read_json(folder / "model_meta.json", {})
        merged |= flat({key: meta[key] for key in _META if key in meta}, "model_meta.")
    return merged


def run_settings(folder: Path) -> dict[str, Settings]:
    """By task: mteb's run_settings.jsonl, which versions since 2.16 or so write."""
    file = folder / "run_settings.jsonl"
    rows = list(read_jsonl(file)) if file.is_file() else []
    return {
        row["task"]: flat({k: v for k, v in row.items() if k not in ("task", "splits", "subsets")})
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("task"), str)
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> Settings:
    """{"a": {"b": 1}} -> {"a.b": "1"}; values as JSON, so that a space at the end of a prompt is seen."""
    return dict(_flat(values, prefix))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file} is not YAML ({reason}); copy the folder again") from error
    return value if isinstance(value, dict) else {}
