"""One process at a time writes a folder: a second one is refused at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codiemb.errors import UserError


@contextmanager
def only_writer(folder: Path, name: Path) -> Iterator[None]:
    """Hold the lock of a folder for the block; it is free again when the process ends, however it ends.

    Args:
        folder: that is written; made if it is not there.
        name: what the user calls it.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: a file for the lock would stay behind
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{name} is being written by another process; wait for it") from None
        yield
    finally:
        os.close(descriptor)
