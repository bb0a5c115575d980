"""JSON files of a model folder, read as what they must be: one UserError that names the file if not."""

import json
from pathlib import Path
from typing import Any

from codiemb.errors import UserError


def read_json(path: Path) -> Any:  # noqa: ANN401  JSON
    """A JSON file, or None where there is none.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); copy the folder again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file.

    Raises:
        UserError: it is anything else.
    """
    return as_object(read_json(path), path)


def as_object(value: object, where: Path, key: str = "") -> dict[str, Any]:
    """A part of a JSON file that must be an object or nothing (missing, null).

    Raises:
        UserError: it is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        what = f"{key} is" if key else "is"
        raise UserError(f"{where}: {what} {value!r:.60}, not a JSON object; copy the folder again")
    return value
