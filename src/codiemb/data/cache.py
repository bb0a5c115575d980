"""The folders of converted files: each whole, counted and hashed, or taken for one that is not there."""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import xxhash

from codiemb.atomic import sync
from codiemb.data.formats import FileState

FORMAT = 4  # raise it when the layout changes: old caches are then not looked at
_SIDECAR = "whole.json"
_LOCK = ".lock"
_PARTIAL = "partial-"
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
    parts = {path.name: path for path in sorted(folder.iterdir()) if path.name not in (_LOCK, _SIDECAR)}
    for path in parts.values():
        sync(path)
    sizes = {name: [path.stat().st_size, hash_file(path)] for name, path in parts.items()}
    body = json.dumps({"parts": sizes, "about": about}, ensure_ascii=False)
    # a file that holds its own hash: damage to the numbers is found as well
    text = json.dumps({"xxh3": xxhash.xxh3_128_hexdigest(body.encode()), "body": body}, ensure_ascii=False)
    partial = folder / (_SIDECAR + ".partial")
    partial.write_text(text + "\n", "utf-8")
    sync(partial)
    os.replace(partial, folder / _SIDECAR)
    sync(folder)


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
    """A folder to write in, locked while this process lives; it vanishes unless it was renamed.

    The kernel drops the lock with the process, however that ends and whatever container it ran in: who can
    take it may remove the folder. On a file system without locks (some NFS and Lustre mounts) nothing is
    removed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    _remove_dead(cache)
    temporary, lock = _new_locked(cache)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a sealed folder. A whole one of the same file that is there (another run's) stays."""
    (temporary / _LOCK).unlink(missing_ok=True)
    if os.path.lexists(folder) and not folder.is_dir():  # a file or a dead link: damage like any other
        folder.unlink()
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
        if damage(folder) is None and _hash_of_source(folder) == _hash_of_source(temporary):
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_PARTIAL) as old:
            os.rename(folder, Path(old) / "damaged")
            os.rename(temporary, folder)
    sync(folder.parent)


def _hash_of_source(folder: Path) -> str | None:
    sidecar = read_sidecar(folder)
    return str(sidecar["about"]["hash"]) if sidecar else None


def _new_locked(cache: Path) -> tuple[Path, int]:
    while True:
        temporary = cache / f"{_PARTIAL}{os.getpid()}-{secrets.token_hex(4)}"
        temporary.mkdir()
        lock = os.open(temporary / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):  # no locks on this file system
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (temporary / _LOCK).exists():
            return temporary, lock
        os.close(lock)  # another run took it for a dead one before it was locked


def _remove_dead(cache: Path) -> None:
    """What killed runs left: folders whose lock nobody holds, old ones that have none."""
    for folder in cache.glob(_PARTIAL + "*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            with suppress(OSError):
                if folder.stat().st_mtime < time.time() - _UNLOCKED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            continue
        except OSError:  # another user's
            continue
        try:
            if _try_lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or no locks on this file system
        return False
    return True
