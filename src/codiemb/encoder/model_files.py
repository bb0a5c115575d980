"""Where a model's small files lie (a folder, or the hub's cache), and whether its parts fit together."""

import functools
import logging
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable, is_unavailable
from codiemb.json_files import TEXT, read_json, take

ADAPTER_CONFIG = "adapter_config.json"
MODULES_FILE = "modules.json"
_SMALL_FILES = ["*.json", "adapter_model.*"]
_OBJECTS = ("config.json", "tokenizer_config.json", "special_tokens_map.json", ADAPTER_CONFIG)

log = logging.getLogger(__name__)


def settings_folder(spec: ModelSpec) -> Path | None:
    """The folder with all JSON files of the model at `spec.path`; None where there is none to be had.

    Of a hub id these files (and no weights) are fetched first, or taken from the cache where the hub does not
    answer. None means that the weights cannot be had either: whoever loads them says so.

    Raises:
        UserError: the hub answers, and its files still cannot be read.
    """
    path = spec.path
    if path is None or Path(path).is_dir():
        return None if path is None else Path(path)
    if spec.weights == "random" or Path(path).exists() or path.startswith((".", "/", "~")):
        return None
    return _snapshot(path, constants.HF_HUB_CACHE)


@functools.lru_cache(maxsize=8)
def _snapshot(path: str, cache: str) -> Path | None:
    """Asked for several times in a run, and each time the hub might take its time to answer."""
    offline = not hub_is_reachable()
    try:
        found = snapshot_download(
            path, cache_dir=cache, allow_patterns=_SMALL_FILES, local_files_only=offline
        )
    except (RepositoryNotFoundError, HFValidationError, LocalEntryNotFoundError):
        return None
    except Exception as error:
        if not is_unavailable(error):
            raise
        raise UserError(f"the settings of {path} cannot be fetched from the hub: {error}") from error
    if not (Path(found) / MODULES_FILE).is_file():
        _note_missing(path, offline=offline)
    return Path(found)


def _note_missing(path: str, *, offline: bool) -> None:
    """Leave a note in the cache that a model has no modules.json; offline, say if there is no such note."""
    if not offline:
        try:
            hf_hub_download(path, MODULES_FILE)
        except EntryNotFoundError:
            return
    elif try_to_load_from_cache(path, MODULES_FILE) is None:
        log.warning(
            "the cache of the hub does not tell whether %s states its pooling and prompts (%s), and the hub "
            "cannot be asked: the config's are used",
            *(path, MODULES_FILE),
        )


def inner_folder(folder: Path) -> str:
    """Where in a sentence-transformers folder the transformer lies: "" or, in old layouts, "0_Transformer".

    Raises:
        UserError: modules.json has another form.
    """
    modules = [read_module(entry, folder / MODULES_FILE) for entry in read_json(folder / MODULES_FILE, [])]
    return next((inner for kind, inner in modules if kind.rpartition(".")[2] == "Transformer"), "")


def read_module(entry: object, path: Path, hint: str = "") -> tuple[str, str]:
    """The class of a module, as modules.json at `path` names it, and where in the folder its files lie.

    Raises:
        UserError: the entry has another form, or points outside the folder.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{path}: {entry!r} must be an object with type and path")
    kind, inner = (take(entry, key, TEXT, path, hint) or "" for key in ("type", "path"))
    if not kind:
        raise UserError(f"{path}: a module without type: {entry!r}")
    if Path(inner).is_absolute() or ".." in Path(inner).parts:
        raise UserError(f"{path}: the module's path {inner!r} leaves the folder")
    return kind, inner


def has_weights(folder: Path) -> bool:
    """Whether a folder has a model's own weights, in one file or several."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return any(not file.name.startswith("adapter_model") for file in files)


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter and no weights of its own."""
    return (folder / ADAPTER_CONFIG).is_file() and not has_weights(folder)


def check_parts(folder: Path, name: str) -> None:
    """Refuse a model whose small files are damaged, or that has both weights and an adapter.

    Raises:
        UserError: naming the file, and what is wrong with it.
    """
    for file in _OBJECTS:
        read_json(folder / file, {})
    if (folder / ADAPTER_CONFIG).is_file() and has_weights(folder):
        raise UserError(
            f"{name} has a whole model and an adapter ({ADAPTER_CONFIG}): which of them is meant? Take "
            f"{ADAPTER_CONFIG} away to load the model as it is, or give the adapter in a folder of its own "
            "to load it on top of the base that it names"
        )


def check_json(folder: Path) -> None:
    """Find the damaged file in a folder that a library could not load.

    Raises:
        UserError: naming it.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name != MODULES_FILE:
            read_json(path, {})
