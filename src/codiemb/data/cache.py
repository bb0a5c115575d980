"""The folders of converted files: each whole, counted and hashed, or taken for one that is not there."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from codiemb.atomic import scratch, sync, write_text
from codiemb.data.formats import FileState

FORMAT = 5  # raise it when the layout changes: old caches are then not looked at
_SIDECAR = "whole.json"
_UNLOCKED_SECONDS = 3_600  # after which a partial folder without lock (of older versions) is a dead one's
_STEM_BYTES = 120  # of a file's name in its folder's: names have 255 bytes at most
_CHUNK = 1 << 22


def folder_name(path: Path, state: FileState, settings: str) -> str:
    """Of the converted file: begins as its own name does."""
    identity = f"{path} {state.size} {state.mtime_ns} {settings} {FORMAT}"
    stem = path.stem.encode("utf-8", "surrogateescape")[:_STEM_BYTES].decode("utf-8", "ignore")
    return f"{stem}-{xxhash.xxh64_hexdigest(identity.encode('utf-8', 'surrogateescape'))}"


def hash_file(path: Path) -> str:
    """128 bits. Reading is what it costs: the hash itself does 40 GB/s on one core."""
    digest, chunk = xxhash.xxh3_128(), bytearray(_CHUNK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(chunk):
            digest.update(memoryview(chunk)[:count])
    return digest.hexdigest()


def write_sidecar(folder: Path, about: dict[str, Any]) -> None:
    """Seal a folder with sizes and hashes of all its files; last, and synced.

    `about` is what is known of them; its `hash` is that of the file they were made from.
    """
    parts = {path.name: path for path in sorted(folder.iterdir()) if path.name != _SIDECAR}
    for path in parts.values():
        sync(path)
    sizes = {name: [path.stat().st_size, hash_file(path)] for name, path in parts.items()}
    body = json.dumps({"parts": sizes, "about": about}, ensure_ascii=False)
    # a file that holds its own hash: damage to the numbers is found as well
    text = json.dumps({"xxh3": xxhash.xxh3_128_hexdigest(body.encode()), "body": body}, ensure_ascii=False)
    write_text(folder / _SIDECAR, text + "\n")


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """What is known of the folder's files; None where it is damaged or a file has another size."""
    try:
        outer = json.loads((folder / _SIDECAR).read_text("utf-8"))
        body = outer["body"]
        if xxhash.xxh3_128_hexdigest(body.encode()) != outer["xxh3"]:
            return None
        inner: dict[str, Any] = json.loads(body)
        if any((folder / name).stat().st_size != size for name, (size, _) in inner["parts"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return inner


def damage(folder: Path) -> str | None:
    """Read every file and say which is not what was written; None where all are."""
    inner = read_sidecar(folder)
    if inner is None:
        return "its count and hash are missing or damaged, or a file in it has another size"
    for name, (_, digest) in inner["parts"].items():
        try:
            if hash_file(folder / name) != digest:
                return f"{name} is not what was written (its hash differs)"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


@contextmanager
def partial_folder(cache: Path) -> Iterator[Path]:
    """A folder to write in (`scratch`); it vanishes unless it was renamed."""
    with suppress(OSError):
        for leftover in cache.glob("partial-*"):  # of older versions, which had no lock
            if leftover.stat().st_mtime < time.time() - _UNLOCKED_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    with scratch(cache / "partial") as temporary:
        yield temporary


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a sealed folder. A whole one of the same file that is there (another run's) stays."""
    if os.path.lexists(folder) and not folder.is_dir():  # a file or a dead link: damage like any other
        folder.unlink()
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
        if damage(folder) is None and _hash_of_source(folder) == _hash_of_source(temporary):
            return
        with scratch(folder) as old:
            os.rename(folder, old / "damaged")
            os.rename(temporary, folder)
    sync(folder.parent)


def _hash_of_source(folder: Path) -> str | None:
    sidecar = read_sidecar(folder)
    return str(sidecar["about"]["hash"]) if sidecar else None
