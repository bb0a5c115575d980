"""`table=` and `compare=` on the command line: the folders of results that they name.

Without torch and mteb, so that a wrong folder is told in a second.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.result_folder import find_results

KEYS = ("table", "compare")


def result_folders(key: str, value: Any) -> list[Path]:  # noqa: ANN401  as the config gives it
    """The folders that a key names: a list, or one.

    Raises:
        UserError: what is no path, or for `compare` anything but two.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{key}={value} must be a list of folders: {key}=[A,B]")
    if key == "compare" and names and len(names) != 2:
        raise UserError(f"compare takes two folders, compare=[A,B], not {len(names)}; table=[...] takes more")
    return [Path(name) for name in names]


def check_results(key: str, names: Sequence[str]) -> None:
    """Look for the results in each folder.

    Raises:
        UserError: naming the key; as `result_folders` and `find_results`.
    """
    for folder in result_folders(key, names):
        try:
            find_results(folder)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error
