"""The model card of a fusion: which checkpoints, by which method, and under whose licence."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codiemb.config.model_card import shown
from codiemb.encoder.folder_settings import SETTINGS_FILE
from codiemb.encoder.model_files import is_adapter
from codiemb.export import Card, write_card
from codiemb.export.card import UNKNOWN_LICENCE
from codiemb.export.consumers import MATRYOSHKA
from codiemb.export.licence import Licence, licence_of
from codiemb.fusion import FUSION_FILE, model_folder
from codiemb.json_files import read_json

log = logging.getLogger(__name__)


def fused_card(folder: Path, base: str | None, repo: str | None) -> Card:
    """The card of a fused folder, before its evaluation.

    Args:
        folder: as `fuse` has written it; its record says what was fused, and how.
        base: the model that all checkpoints were trained from.
        repo: where it goes on the hub.
    """
    record = read_json(folder / FUSION_FILE, {})
    paths = [row["path"] for row in record["checkpoints"]]
    licence = _shared_licence([*([base] if base else []), *paths])
    count = len(paths)
    return Card(
        name=repo or "A fusion by CoDiEmb",
        repo=repo,
        origin=f"Fused from {count} checkpoint{'s' * (count > 1)} by CoDiEmb, stage fuse; their own cards "
        "say what they were trained on.",
        base_model=licence.base_model,
        licence=licence.name,
        licence_source=licence.source,
        matryoshka_dims=tuple(read_json(folder / "config.json", {}).get(MATRYOSHKA, ())),
        settings=_settings(record, base),
    )


def write_fused_card(folder: Path, card: Card) -> None:
    """Write the card, where the folder states how it embeds: a plain Hugging Face folder does not."""
    if (folder / SETTINGS_FILE).is_file():
        write_card(folder, card)
    else:
        log.info("%s has no %s, so no model card is written", folder, SETTINGS_FILE)


def _settings(record: dict[str, Any], base: str | None) -> dict[str, str]:
    options = ", ".join(f"{key}={value}" for key, value in record["options"].items())
    rows = enumerate(record["checkpoints"], 1)
    return {
        "method": f"{record['method']}({options})",
        **({"base": f"`{shown(Path(base))}`"} if base else {}),
        **{f"checkpoint {k}": f"`{shown(Path(row['path']))}`, weight {row['weight']:.3f}" for k, row in rows},
    }


def _shared_licence(paths: Iterable[str]) -> Licence:
    """That of all folders which state one; `unknown` where they disagree. An adapter states its base's."""
    folders = [Path(path) if is_adapter(Path(path)) else model_folder(Path(path)) for path in paths]
    found = [licence_of(str(folder)) for folder in folders]
    stated = [licence for licence in found if licence.name != UNKNOWN_LICENCE]
    names = dict.fromkeys(licence.name for licence in stated)
    if len(names) > 1:
        source = f"The models that were fused state several: {', '.join(names)}."
        return Licence(UNKNOWN_LICENCE, source, None)
    return (stated or found)[0]
