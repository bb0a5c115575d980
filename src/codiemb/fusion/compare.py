"""Refuse checkpoints that do not belong together, naming the first key that differs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.errors import UserError
from codiemb.fusion.model_folder import CONFIG_FILE, Checkpoint, TensorInfo, read_json

# Where a config was written and how it is loaded; nothing of what the model computes.
_CIRCUMSTANCES = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
}
_ONE_MODEL = "only checkpoints of one architecture and one tokenizer can be fused"
_Difference = tuple[str, object, object]  # dotted key, first value, second value
_MISSING = "missing"


def check_same(first: Checkpoint, other: Checkpoint) -> None:
    """Same config, tensors, tokenizer and embedding settings.

    Raises:
        UserError: naming both folders, the first key that differs and its values.
    """
    configs = [_config(checkpoint) for checkpoint in (first, other)]
    common = configs[0].keys() & configs[1].keys() - _CIRCUMSTANCES  # older releases write fewer keys
    _refuse(first, other, CONFIG_FILE, *({key: c[key] for key in sorted(common)} for c in configs))
    _refuse(first, other, "weights", *(_tensors(checkpoint.tensors) for checkpoint in (first, other)))
    _refuse(first, other, "tokenizer.json", *(_tokenizer(checkpoint.folder) for checkpoint in (first, other)))
    _refuse(first, other, SETTINGS_FILE, *(_settings(checkpoint.folder) for checkpoint in (first, other)))


def check_distinct(checkpoints: list[Checkpoint]) -> None:
    """No checkpoint twice, whatever links led to it.

    Raises:
        UserError: naming both.
    """
    seen: dict[tuple[Path, Path | None], str] = {}
    for checkpoint in checkpoints:
        key = checkpoint.folder.resolve(), checkpoint.adapter.file.resolve() if checkpoint.adapter else None
        if key in seen:
            raise UserError(f"fuse.checkpoints: {checkpoint.name} is the same folder as {seen[key]}")
        seen[key] = checkpoint.name


def check_base(base: Checkpoint, first: Checkpoint) -> Checkpoint:
    """Same kind of model and vocabulary, and a tensor of the same shape for each of the checkpoints'.

    The base may have more (a language-model head), name its tensors with a prefix ("model."), be of another
    dtype, and lack a pooler, on which no embedding depends.

    Returns:
        The base, with that prefix.

    Raises:
        UserError: naming both folders, the first key that differs and its values.
    """
    kinds = [{"model_type": _config(checkpoint).get("model_type")} for checkpoint in (base, first)]
    _refuse(base, first, CONFIG_FILE, *kinds)
    names = [name for name in first.tensors if "pooler" not in name]
    prefix = _prefix(base, names)
    tensors = {name: base.tensors[prefix + name] for name in first.tensors if prefix + name in base.tensors}
    pairs = [
        {name: str(list(t[name].shape)) for name in names if name in t} for t in (tensors, first.tensors)
    ]
    _refuse(base, first, "weights", *pairs)
    vocabularies = [_vocabulary(checkpoint.folder) for checkpoint in (base, first)]
    _refuse(base, first, "tokenizer.json", *vocabularies)
    return replace(base, tensors=tensors, prefix=prefix)


def first_difference(a: object, b: object, path: str = "") -> _Difference | None:
    """The first place, depth first, in which two JSON values differ."""
    if a == b:
        return None
    if isinstance(a, dict) and isinstance(b, dict):
        keys: list[Any] = list(dict.fromkeys([*a, *b]))
        pairs = [(key, a.get(key, _MISSING), b.get(key, _MISSING)) for key in keys]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = [(index, x, y) for index, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return path, a, b
    inner = (first_difference(x, y, f"{path}.{key}".removeprefix(".")) for key, x, y in pairs)
    return next((found for found in inner if found is not None), None)


def _refuse(first: Checkpoint, other: Checkpoint, file: str, a: object, b: object) -> None:
    difference = None if a is None or b is None else first_difference(a, b)
    if difference is not None:
        key, here, there = difference
        raise UserError(
            f"{other.name} differs from {first.name} in {file}: {key} is {there!s:.60}, not {here!s:.60}; "
            f"{_ONE_MODEL}"
        )


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    return read_json(checkpoint.folder / CONFIG_FILE) or {}


def _tensors(tensors: dict[str, TensorInfo]) -> dict[str, str]:
    return {name: f"{info.dtype}{list(info.shape)}" for name, info in sorted(tensors.items())}


def _tokenizer(folder: Path) -> dict[str, Any] | None:
    """All of it but how long a text may be; None where a folder has none of this format."""
    tokenizer = read_json(folder / "tokenizer.json")
    return tokenizer and {k: v for k, v in tokenizer.items() if k not in ("truncation", "padding")}


def _vocabulary(folder: Path) -> object | None:
    return (_tokenizer(folder) or {}).get("model", {}).get("vocab")


def _settings(folder: Path) -> dict[str, Any] | None:
    """Pooling, attention and prompts of an export of ours."""
    settings = (read_json(folder / SETTINGS_FILE) or {}).get("model")
    return settings and {key: value for key, value in settings.items() if key != "max_tokens"}


def _prefix(base: Checkpoint, names: list[str]) -> str:
    """What the base puts before the checkpoints' names; nothing, if no prefix fits all of them."""
    candidates = sorted(
        {key.removesuffix(names[0]) for key in base.tensors if key.endswith(names[0])}, key=len
    )
    return next((p for p in candidates if all(p + name in base.tensors for name in names)), "")
