"""Write a file or a folder whole or not at all: who finds one may trust it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Under a temporary name first, then renamed; the folder is made if it is not there.

    Only one process may write a file at a time: the temporary name is always the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8", newline="\n")
    os.replace(partial, path)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; it takes its place if the block ends well, and vanishes if not.

    `folder` is replaced if it exists, and kept until that has worked; a link is replaced, not what it points
    to.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which is kept aside until that has worked."""
    old = new.with_name(new.name + ".old")
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
        shutil.rmtree(old)
