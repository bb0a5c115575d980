"""The manifest of a step: what it read, with which parameters, and what came out, in rows and in bytes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from codiemb.atomic import write_text
from codiemb.json_files import read_json
from data_prep.blocks import blocks, num_rows
from data_prep.layout import tables_of

MANIFEST = "manifest.json"
_PACKAGES = (
    "codiemb",
    "pyarrow",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "bm25s",
    "numpy",
)


def read_manifest(folder: Path) -> dict[str, Any]:
    """A folder's manifest; empty where there is none."""
    return read_json(
        folder / MANIFEST, {}, "the folder is not what a step wrote; remove it and run the step again"
    )


def checked_tasks(sources: Sequence[Path], own: Sequence[Mapping[str, Any]] = ()) -> list[Mapping[str, Any]]:
    """The evaluations that a result was searched for: those of all its inputs, and the step's own."""
    of_inputs = [read_manifest(source).get("checked_against", []) for source in sources]
    everywhere = (
        [each for each in of_inputs[0] if all(each in other for other in of_inputs)] if of_inputs else []
    )
    return [*(each for each in everywhere if each not in own), *own]


class Input(NamedTuple):
    """A folder that a step read.

    Attributes:
        folder: where it lay; perhaps not any more.
        manifest: sha256 of its manifest, as it was read.
    """

    folder: Path
    manifest: str

    @property
    def problem(self) -> str:
        """Why this is not what was read; "" if it is."""
        if not (self.folder / MANIFEST).is_file():
            return "is gone"
        return "" if hash_file(self.folder / MANIFEST) == self.manifest else "has changed since"


def inputs_of(folder: Path) -> list[Input]:
    """The folders that a step read, as its manifest says."""
    found = read_manifest(folder).get("inputs", [])
    return [Input(Path(os.path.normpath(folder / each["folder"])), each["manifest"]) for each in found]


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(about: Mapping[str, Any]) -> str:
    """The hash of all that a step's result follows from: results are the same where it is."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_manifest(folder: Path, about: Mapping[str, Any], sources: list[Path]) -> None:
    """Write manifest.json, last: who finds one has the whole folder.

    No time and no absolute path stands in it, so that a step done again gives the same bytes, and the steps
    behind it need not be.

    Args:
        folder: what the step wrote.
        about: `step`, `version`, `parameters`, `inputs`, `identity`, and what the step itself adds.
        sources: the folders it read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        **about,
        "rows": {name: _rows(folder, name, str(about["step"]), sources) for name in tables_of(folder)},
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": hash_file(path)}
            for path in files
        },
        "schema": {name: _columns(folder / name) for name in tables_of(folder)},
        "packages": _versions(),
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _rows(folder: Path, name: str, step: str, sources: list[Path]) -> dict[str, Any]:
    """Rows in and out of a table, and how many this step dropped, by reason."""
    kept, reasons = 0, Counter[str]()
    for block in blocks(folder / name, ["dropped_by", "reason"]):
        for by, reason in zip(block["dropped_by"].to_pylist(), block["reason"].to_pylist(), strict=True):
            kept += by is None
            if by == step:
                reasons[reason or ""] += 1
    before = [num_rows(source / name) for source in sources if (source / name).is_file()]
    return {
        "in": sum(before),
        "out": num_rows(folder / name),
        "kept": kept,
        "dropped": dict(sorted(reasons.items())),
    }


def _columns(path: Path) -> dict[str, str]:
    schema = pq.read_schema(path)
    return {field.name: str(field.type) for field in schema}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
