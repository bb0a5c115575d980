"""The licence of the weights that a model was trained from, as their own model card states it."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import hf_hub_download, metadata_load, try_to_load_from_cache

from codiemb.export.card import CARD_FILE, UNKNOWN_LICENCE
from codiemb.hub import hub_is_reachable, is_unavailable


class Licence(NamedTuple):
    """In the hub's words, where it is stated, and the hub id of the base, if there is one."""

    name: str
    source: str
    base_model: str | None


def licence_of(base: str | None) -> Licence:
    """The licence of a folder or hub id; `unknown` where no card states one.

    The card is fetched from the hub where it is in reach, and else taken from the cache.
    """
    if base is None:
        return Licence(UNKNOWN_LICENCE, "The weights began as random numbers: no base binds them.", None)
    local = Path(base).is_dir()
    file = Path(base) / CARD_FILE if local else _card_from_hub(base)
    stated = _metadata(file)
    name = str(stated.get("license") or UNKNOWN_LICENCE)
    base_model = stated.get("base_model") if local else base
    if name == UNKNOWN_LICENCE:
        source = "No model card of the base states one."
    else:
        shown = Path(base).name if local else base
        source = f"So says the model card of the base, {shown}; it binds this model, too."
    return Licence(name, source, base_model if isinstance(base_model, str) else None)


def _card_from_hub(repo: str) -> Path | None:
    if hub_is_reachable():
        try:
            return Path(hf_hub_download(repo, CARD_FILE))
        except Exception as error:
            if not is_unavailable(error):
                raise
    cached = try_to_load_from_cache(repo, CARD_FILE)
    return Path(cached) if isinstance(cached, str) else None


def _metadata(file: Path | None) -> dict[str, Any]:
    """Empty where there is no card, or one whose head is no YAML: somebody else wrote it."""
    if file is None or not file.is_file():
        return {}
    try:
        stated: dict[str, Any] | None = metadata_load(file)
    except (ValueError, yaml.YAMLError):
        return {}
    return stated or {}
