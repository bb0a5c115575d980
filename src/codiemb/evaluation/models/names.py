"""Whether mteb's registry has a model that can be scored here; by its source code, without importing it."""

import difflib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable
from codiemb.mteb_source import model_entry, model_names

_FILES = ("config.json", "modules.json")  # of a model's folder: one of them


def check_name(name: str, path: str | None, *, trust_remote_code: bool) -> None:
    """Refuse what mteb's source code says cannot be loaded or scored; what it leaves open is mteb's to say.

    Raises:
        UserError: no such name, with the nearest ones; a model of another kind; code that may not run; or a
            folder that is no copy.
    """
    if not name:
        raise UserError("model=mteb needs model.name=OWNER/NAME, a name of mteb's registry")
    if model_names() and name not in model_names():
        raise unknown(name)
    entry = model_entry(name)
    check_kind(
        name,
        has_loader=entry.get("loader", ...) is not None,
        modalities=_texts(entry.get("modalities"), "text"),
        model_types=_texts(entry.get("model_type"), "dense"),
    )
    options = entry.get("loader_kwargs")
    check_code(
        name,
        needed=isinstance(options, dict) and options.get("trust_remote_code") is True,
        allowed=trust_remote_code,
    )
    check_copy(name, path)
    if {"framework", "revision"} <= entry.keys():
        from_hub = "API" not in _texts(entry["framework"], "")
        check_to_be_had(name, path, from_hub=from_hub, revision=entry["revision"])


def check_kind(name: str, *, has_loader: bool, modalities: Sequence[str], model_types: Sequence[str]) -> None:
    """A model of texts, with one vector for each, that can be loaded.

    Raises:
        UserError: it is another.
    """
    if not has_loader:
        raise UserError(f"{name}: mteb has results of this model, but no loader")
    if "text" not in modalities:
        raise UserError(f"{name} reads {' and '.join(modalities)}, no text")
    if "dense" not in model_types:
        raise UserError(
            f"{name} is a {'/'.join(model_types)} model; run_eval.py scores models with one vector a text"
        )


def check_code(name: str, *, needed: bool, allowed: bool) -> None:
    """Raises UserError where a model's own code is needed, and nobody has allowed it."""
    if needed and not allowed:
        raise UserError(
            f"{name} brings its own Python code; read it, then allow it with model.trust_remote_code=true"
        )


def check_copy(name: str, path: str | None) -> None:
    """Raises UserError where `model.path` is no folder of a model."""
    if path is not None and not any((Path(path) / each).is_file() for each in _FILES):
        raise UserError(f"model.path={path} must be a folder with a copy of {name}: no config.json there")


def check_to_be_had(name: str, path: str | None, *, from_hub: bool, revision: object) -> None:
    """At most five seconds, for the hub. Raises UserError where it does not answer, and has no copy here."""
    if path is not None or not from_hub or hub_is_reachable():
        return
    at = revision if isinstance(revision, str) else None
    try:
        cached = [try_to_load_from_cache(name, each, revision=at) for each in _FILES]
    except HFValidationError:  # one of mteb's own names, with its settings in it: no id of the hub
        return
    if not any(isinstance(each, str) for each in cached):
        raise UserError(
            f"{name} is not in the local cache, and the hub cannot be reached; model.path=FOLDER takes a copy"
        )


def unknown(name: str) -> UserError:
    """That the registry has no such name, with those that may have been meant."""
    return UserError(f"model.name={name} is not in the registry of mteb {version('mteb')}{_near(name)}")


def _near(name: str) -> str:
    """By the whole name or by its last part."""
    by_key = {known.lower(): known for known in model_names()}
    by_key |= {known.lower().rpartition("/")[2]: known for known in model_names()}
    keys = difflib.get_close_matches(name.lower(), by_key, n=6)
    keys += difflib.get_close_matches(name.lower().rpartition("/")[2], by_key, n=6)
    names = list(dict.fromkeys(by_key[key] for key in keys))[:3]
    return f"; did you mean {' or '.join(names)}?" if names else "; mteb.get_model_metas() lists the names"


def _texts(stated: object, default: str) -> list[str]:
    return [str(each) for each in stated] if isinstance(stated, list) and stated else [default]
