"""Hashes of texts, and whether what lies in a folder was made from the same things as now."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from codiemb.data.cache import hash_file
from codiemb.differences import differences
from codiemb.errors import UserError


def texts_hash(rows: Iterable[tuple[str, ...]]) -> str:
    """Hash of the texts of each row, in order."""
    digest = xxhash.xxh3_128()
    for row in rows:
        for text in row:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """Of all files of a folder, such as a model's: its name says nothing of its weights."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hash_file(path) for path in files}


def refuse_other(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Check that what lies at `path` was made as it would be made now.

    Raises:
        UserError: it was not; all that differs is named.
    """
    if different := differences(there, here):
        lines = [f"{key}: {old} there, {new} now" for key, (old, new) in different.items()]
        raise UserError(
            f"{path} was made from something else and is not used ({'; '.join(lines)}); "
            "remove it, or name another folder"
        )
