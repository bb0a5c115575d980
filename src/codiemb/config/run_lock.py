"""A folder belongs to one run at a time: new names are made, not looked up; a lock dies with its process."""

import errno
import fcntl
import functools
import itertools
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.ranks import is_main_process
from codiemb.errors import UserError

log = logging.getLogger("codiemb")

LOCK_FILE = ".lock"
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what such disks answer
_NEW_FOLDER = "CODIEMB_NEW_FOLDER"  # rank 0's newest, for the ranks that it starts

Main = Callable[[DictConfig], float | None]
_held: dict[tuple[int, Path], int] = {}  # open files by process (a fork inherits this table) and folder


def one_run_a_folder(main: Main) -> Main:
    """Hold the lock of the run's folder while `main` runs."""

    @functools.wraps(main)
    def locked(cfg: DictConfig) -> float | None:
        folder = Path(cfg.run_dir)
        lock(folder)
        try:
            return main(cfg)
        finally:
            unlock(folder)

    return locked


def lock(folder: Path) -> None:
    """Take a folder until `unlock` or the end of this process, however it ends. Other ranks take nothing.

    A POSIX record lock, not flock: forked loader workers do not inherit it, so it never outlives the run,
    and shared disks (NFS, Lustre mounted with `flock`) keep it among hosts. A process must not open the file
    a second time: closing that would give the lock away.

    Raises:
        UserError: another process has it (says which), or the folder cannot be written.
    """
    place = (os.getpid(), folder.resolve())
    if place in _held or not is_main_process():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(_not_writable(folder, error)) from error
    try:
        _take(file, folder)
    except BaseException:
        os.close(file)
        raise
    _held[place] = file


def unlock(folder: Path) -> None:
    """Give a folder back, if this process has it. The file stays: the next run may have opened it already."""
    file = _held.pop((os.getpid(), folder.resolve()), None)
    if file is not None:
        os.close(file)


def new_folder(parent: str | Path) -> str:
    """Make a folder named after the time, which nobody had before; a second one in a second gets a number.

    In a sweep the ranks that Lightning starts ask, too: theirs is rank 0's.

    Raises:
        UserError: the folder cannot be made.
    """
    if not is_main_process() and _NEW_FOLDER in os.environ:
        return os.environ[_NEW_FOLDER]
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in itertools.chain([""], (f"_{number}" for number in itertools.count(2))):
        folder = Path(parent) / f"{name}{suffix}"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if folder.parent.is_dir():
                continue
            raise UserError(f"{folder.parent} is in the way: it is no folder") from None
        except OSError as error:
            raise UserError(_not_writable(folder, error)) from error
        os.environ[_NEW_FOLDER] = str(folder)
        break
    return str(folder)


class LockFolder(Callback):
    """Takes the folder of a run or of a sweep before Hydra writes its own files there."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra before it makes the folder; `one_run_a_folder` gives it back."""
        _lock_or_exit(lambda: config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra before the first job. The jobs lock their own folders besides."""
        _lock_or_exit(lambda: config.hydra.sweep.dir)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401  Hydra's signature
        """Called by Hydra after the last job."""
        unlock(Path(config.hydra.sweep.dir))


def _lock_or_exit(folder: Callable[[], str]) -> None:
    """Hydra makes a warning of what a callback raises, so errors end the process here."""
    if not is_main_process():
        return
    try:
        lock(Path(folder()))
    except UserError as error:
        _exit_with(error)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, UserError):
            _exit_with(error.__cause__)
        # else its name has parts that are known in the job only: the run's main locks it


def _exit_with(error: UserError) -> None:
    sys.stderr.write(f"\nerror: {error}\n")
    sys.exit(2)


def _take(file: int, folder: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            raise UserError(
                f"{folder} is in use by {_holder(file)}: wait for its end or stop it, or choose another "
                "folder (hydra.run.dir=FOLDER, in a sweep hydra.sweep.dir=FOLDER)"
            ) from None
        if error.errno not in _NO_LOCKS:
            raise UserError(_not_writable(folder, error)) from error
        log.warning(
            "the disk of %s cannot lock files (%s): see to it yourself that no second run uses this folder",
            *(folder, error.strerror),
        )
    me = f"process {os.getpid()} on host {platform.node()} since {datetime.now().astimezone():%F %T %Z}\n"
    os.pwrite(file, me.encode(), 0)
    os.ftruncate(file, len(me.encode()))


def _holder(file: int) -> str:
    """What the one that has the lock wrote into its file; it may be about to."""
    for _ in range(10):
        if text := os.pread(file, 1000, 0).decode(errors="replace").strip():
            return text
        time.sleep(0.05)
    return "another process"


def _not_writable(folder: Path, error: OSError) -> str:
    return f"{folder} cannot hold a run: {error.strerror or error}; hydra.run.dir=FOLDER names another"
