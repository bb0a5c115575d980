"""A home for a user whom the system does not know, as containers start them: libraries keep caches there."""

import os
import pwd
import sys
import tempfile
from pathlib import Path

from codiemb.config.ranks import is_main_process


def find_home() -> None:
    """Set HOME and USER where nobody has, before libraries are imported: mteb and torch raise without.

    The home is a folder in /tmp that only this user can read; it goes to the ranks that this process starts.
    HOME=/ that cannot be written is no home (Docker's for an unknown user).
    """
    uid = str(os.getuid())
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")) and not _entry():
        os.environ["USER"] = uid
    home = os.path.expanduser("~")
    if home not in ("~", "/") or (home == "/" and os.access("/", os.W_OK)):
        return
    os.environ["HOME"] = str(_own_folder(Path(tempfile.gettempdir()) / f"codiemb-home-{uid}"))
    if is_main_process():
        sys.stderr.write(f"this user has no home: HOME={os.environ['HOME']} keeps the caches of libraries\n")


def _entry() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _own_folder(folder: Path) -> Path:
    """This folder, or a new one where another user was here first."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp())
    status = folder.lstat()
    is_ours = status.st_uid == os.getuid() and not folder.is_symlink() and status.st_mode & 0o077 == 0
    return folder if is_ours else Path(tempfile.mkdtemp())
