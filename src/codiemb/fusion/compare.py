"""Refuse checkpoints that do not belong together, naming the first key that differs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.errors import UserError
from codiemb.fusion.checkpoint import CONFIG_FILE, Checkpoint, TensorInfo
from codiemb.fusion.names import is_optional
from codiemb.json_files import COPY_AGAIN, OBJECT, read_json, take

# Where a config was written and how it is loaded; nothing of what the model computes.
_CIRCUMSTANCES = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "pruned_heads",  # an export's word to older releases
}
_ONE_MODEL = "only checkpoints of one architecture and one tokenizer can be fused"
_Difference = tuple[str, object, object]  # dotted key, first value, second value
_MISSING = "missing"


def check_same(first: Checkpoint, other: Checkpoint) -> None:
    """Same config, weights, tokenizer and embedding settings; heads, poolers and buffers may differ.

    Raises:
        UserError: naming both folders, the first key that differs and its values.
    """
    configs = [_config(checkpoint) for checkpoint in (first, other)]
    common = configs[0].keys() & configs[1].keys() - _CIRCUMSTANCES  # older releases write fewer keys
    _refuse(first, other, CONFIG_FILE, *({key: c[key] for key in sorted(common)} for c in configs))
    _refuse(first, other, "weights", *(_weights(checkpoint.tensors) for checkpoint in (first, other)))
    _refuse(first, other, "tokenizer.json", *(_tokenizer(checkpoint.folder) for checkpoint in (first, other)))
    _refuse(first, other, SETTINGS_FILE, *(_settings(checkpoint.folder) for checkpoint in (first, other)))


def check_weights(checkpoint: Checkpoint) -> None:
    """There is something to fuse.

    Raises:
        UserError: the folder holds heads and buffers alone.
    """
    if not _weights(checkpoint.tensors):
        raise UserError(f"{checkpoint.name} has no weights that an embedding depends on; {_ONE_MODEL}")


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
    """Same kind of model and vocabulary, and a tensor of the same shape for each of the checkpoints' weights.

    The base may have more or less that no embedding depends on (a language-model head, a pooler, buffers),
    and be of another dtype.

    Returns:
        The base, with those of its tensors that the checkpoints have as well, in the same shape.

    Raises:
        UserError: naming both folders, the first key that differs and its values.
    """
    kinds = [{"model_type": _config(checkpoint).get("model_type")} for checkpoint in (base, first)]
    _refuse(base, first, CONFIG_FILE, *kinds)
    names = _weights(first.tensors)
    pairs = [
        {name: str(list(side.tensors[name].shape)) for name in names if name in side.tensors}
        for side in (base, first)
    ]
    _refuse(base, first, "weights", *pairs)
    vocabularies = [_vocabulary(checkpoint.folder) for checkpoint in (base, first)]
    _refuse(base, first, "tokenizer.json", *vocabularies)
    same = {
        name: info
        for name, info in base.tensors.items()
        if name in first.tensors and info.shape == first.tensors[name].shape
    }
    return replace(base, tensors=same)


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
    return read_json(checkpoint.folder / CONFIG_FILE, {}, COPY_AGAIN)


def _weights(tensors: dict[str, TensorInfo]) -> dict[str, str]:
    """What embeddings depend on, with type and shape."""
    return {
        name: f"{info.dtype}{list(info.shape)}"
        for name, info in sorted(tensors.items())
        if not is_optional(name, info.dtype)
    }


def _tokenizer(folder: Path) -> dict[str, Any] | None:
    """All of it but how long a text may be; None where a folder has none of this format."""
    tokenizer = read_json(folder / "tokenizer.json", {}, COPY_AGAIN)
    return {k: v for k, v in tokenizer.items() if k not in ("truncation", "padding")} or None


def _vocabulary(folder: Path) -> object | None:
    model = take(_tokenizer(folder) or {}, "model", OBJECT, folder / "tokenizer.json", COPY_AGAIN) or {}
    return model.get("vocab")


def _settings(folder: Path) -> dict[str, Any] | None:
    """Pooling, attention and prompts of an export of ours."""
    path = folder / SETTINGS_FILE
    settings = take(read_json(path, {}, COPY_AGAIN), "model", OBJECT, path, COPY_AGAIN) or {}
    return {key: value for key, value in settings.items() if key != "max_tokens"} or None
