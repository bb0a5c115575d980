"""Write a folder whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
