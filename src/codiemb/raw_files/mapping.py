"""The keys and values of a YAML file that a user wrote."""

from pathlib import Path
from typing import Any

import yaml

from codiemb.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(value or {}, dict):
        raise UserError(f"{path} must hold keys and values, not {type(value).__name__}")
    return value or {}
