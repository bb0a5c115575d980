"""Write a file or a folder whole or not at all: who finds one may trust it, also after the power went off."""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 200  # bytes of a name that are kept in a temporary one: file systems end at 255
_OLD = ".old"


def write_text(path: Path, text: str) -> None:
    """Under a temporary name first, then renamed; the folder is made if it is not there.

    Only one process may write a file at a time: the temporary name is always the same. On return the text and
    its name are on the disk: two flushes, 1 to 10 ms on an SSD, so not for what is written every step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(_short(path.name) + ".partial")
    partial.write_text(text, "utf-8", newline="\n")
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk itself; some shared disks cannot flush a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; it takes its place if the block ends well, and vanishes if not.

    `folder` is replaced if it exists, and kept until that has worked; a link is replaced, not what it points
    to. Before the rename every file is flushed: that costs what a copy of the folder would wait for the disk.
    Who may read the result is what umask says, whatever its writers thought.
    """
    with scratch(folder) as temporary:
        yield temporary
        _open_as_umask_says(temporary)
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        _replace(temporary, folder)
        sync(folder.parent)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, `.NAME-` and eight letters, that is gone after the block.

    It is locked while its process lives. Those of processes that were killed are removed first, and what such
    a process had moved aside takes its place again. Where a disk cannot lock a folder (NFS), they stay.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary, lock = _locked_folder(folder)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _short(name: str) -> str:
    return name.encode()[:_LONGEST].decode(errors="ignore")


def _locked_folder(folder: Path) -> tuple[Path, int]:
    """A new folder beside `folder`, and the descriptor that holds its lock."""
    while True:
        temporary = folder.with_name(f".{_short(folder.name)}-{secrets.token_hex(4)}")
        temporary.mkdir()
        try:
            lock = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        if _lock(lock) is not False:
            return temporary, lock
        os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """True if it is ours now, False if another holds it, None if this disk has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_leftovers(folder: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(_short(folder.name))}-[a-z0-9_]{{8}}({re.escape(_OLD)})?")
    found = [path for path in folder.parent.iterdir() if pattern.fullmatch(path.name)]
    for path in sorted(found, reverse=True):  # what was moved aside before what was to take its place
        owner = path.with_name(path.name.removesuffix(_OLD))
        if path.is_symlink() or not path.is_dir() or not _is_orphan(owner if owner.exists() else path):
            continue
        if path.name.endswith(_OLD) and not folder.exists():
            os.replace(path, folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_orphan(path: Path) -> bool:
    """Whether nobody holds a folder's lock any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _lock(descriptor) is True
    finally:
        os.close(descriptor)


def _open_as_umask_says(folder: Path) -> None:
    """Give every file the rights of the folder, which umask made: some writers leave theirs at 0600."""
    rights = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | rights)


def _replace(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which is kept aside until that has worked."""
    old = new.with_name(new.name + _OLD)
    replaced = folder.exists() or folder.is_symlink()
    if replaced:
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if replaced:
            os.replace(old, folder)
        raise
    if old.is_symlink():
        old.unlink()
    elif replaced:
        shutil.rmtree(old, ignore_errors=True)
