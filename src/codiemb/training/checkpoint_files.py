"""Checkpoints on disk: committed under their final name with a hash, or as good as not there.

A checkpoint is a file or a folder (sharded strategies write one), `step-40.ckpt`. Beside it lies its commit
record, `step-40.json`, written last: without a record, or with another size or hash, it does not count.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from codiemb.atomic import sync, write_text

log = logging.getLogger(__name__)

PARTIAL = ".partial"
FULL = (errno.ENOSPC, errno.EDQUOT)
_LATEST = "last.ckpt"  # a link for people; the code goes by the records
_BLOCK = 1 << 24  # bytes


class Saved(NamedTuple):
    """A committed checkpoint: the state after `step` optimizer steps."""

    path: Path
    step: int


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the state after `step` optimizer steps lies."""
    return folder / f"step-{step}.ckpt"


def commit(partial: Path, step: int) -> Saved:
    """Give a completely written checkpoint its final name and its record; survives a power cut.

    Raises:
        OSError: the disk refuses; what was committed before is untouched.
    """
    saved = Saved(checkpoint_path(partial.parent, step), step)
    for file in _files(partial):
        sync(file)
    record = {"step": step, **_identity(partial)}
    discard(saved)  # of an earlier attempt at this step, damaged since
    os.replace(partial, saved.path)
    write_text(_record_path(saved), json.dumps(record) + "\n")
    _link(saved)
    sync(partial.parent)
    return saved


def last_good(folder: Path) -> Saved | None:
    """The newest checkpoint that is what its record says; a damaged one is named in a warning."""
    for saved in reversed(committed(folder)):
        problem = _damage(saved)
        if problem is None:
            return saved
        log.warning("%s is damaged (%s): using the checkpoint before it", saved.path, problem)
    return None


def committed(folder: Path) -> list[Saved]:
    """All checkpoints that have a record, oldest first."""
    records = (path for path in folder.glob("step-*.json") if path.stem.removeprefix("step-").isdigit())
    steps = sorted(int(path.stem.removeprefix("step-")) for path in records)
    return [Saved(checkpoint_path(folder, step), step) for step in steps]


def discard(saved: Saved) -> None:
    """Remove a checkpoint, its record first: what an interruption leaves has none, and does not count."""
    _record_path(saved).unlink(missing_ok=True)
    remove(saved.path)


def keep_newest(folder: Path, count: int) -> None:
    """Discard all but the newest `count` checkpoints."""
    for saved in committed(folder)[:-count]:
        discard(saved)


def clear_after(folder: Path, step: int) -> None:
    """Discard what a run that goes on from `step` writes anew: later checkpoints, and half-written ones."""
    for saved in committed(folder):
        if saved.step > step:
            discard(saved)
    kept = {saved.path.name for saved in committed(folder)}
    for path in (*folder.glob(f"*{PARTIAL}"), *folder.glob("step-*.ckpt")):
        if path.name not in kept:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def disk_error(error: BaseException | None) -> OSError | None:
    """The operating system's error behind what a writer raised: torch.save reports its own on top of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def describe_disk_error(error: OSError, path: Path) -> str:
    """What the system said about writing to `path` and, where the disk is full, which disk and how full."""
    if error.errno not in FULL:
        return str(error)
    place = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    usage = shutil.disk_usage(place)
    while not place.is_mount() and place != place.parent:
        place = place.parent
    free, total = usage.free / 2**30, usage.total / 2**30
    return f"the disk mounted at {place} is full: {free:.2f} of {total:.2f} GiB free"


def _damage(saved: Saved) -> str | None:
    """Why a checkpoint is not what its record says; None if it is."""
    try:
        record = json.loads(_record_path(saved).read_text("utf-8"))
        size = sum(file.stat().st_size for file in _files(saved.path))
        if size != record["bytes"]:
            return f"{size:,} bytes instead of {record['bytes']:,}"
        return None if _identity(saved.path)["xxh3"] == record["xxh3"] else "its hash differs"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__


def _identity(path: Path) -> dict[str, str | int]:
    """Size and hash over names and contents. xxh3 reads at memory speed; it guards against accidents only."""
    digest, size = xxhash.xxh3_128(), 0
    for file in _files(path):
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                size += len(block)
    return {"bytes": size, "xxh3": digest.hexdigest()}


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files of a folder in a fixed order."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _record_path(saved: Saved) -> Path:
    return saved.path.with_suffix(".json")


def _link(saved: Saved) -> None:
    partial = saved.path.with_name(_LATEST + PARTIAL)
    partial.unlink(missing_ok=True)
    partial.symlink_to(saved.path.name)
    os.replace(partial, saved.path.with_name(_LATEST))
