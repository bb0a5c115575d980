r"""Read JSON: small files whose wrong form is one error that names file and key, and lines that end at \n."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from codiemb.errors import UserError

COPY_AGAIN = "copy the folder again"  # a hint: nobody writes these files by hand

Json = TypeVar("Json", dict[str, Any], list[Any])
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class Kind(NamedTuple):
    """What a value must be, in words and as a check."""

    name: str
    fits: Callable[[Any], bool]


TEXT = Kind("a string", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
LENGTH = Kind("a whole number from 1", lambda value: type(value) is int and value >= 1)
NUMBER = Kind("a number", lambda value: type(value) in (int, float))
PROMPTS = Kind(
    "an object of strings",
    lambda value: isinstance(value, dict) and all(isinstance(v, str | None) for v in value.values()),
)
NAMES = Kind(
    "a name or a list of names",
    lambda value: all(isinstance(name, str) for name in (value if isinstance(value, list) else [value])),
)


def read_json(path: Path, empty: Json, hint: str = "") -> Json:
    """The object or list in a file, or `empty` where there is no file; `hint` ends each error.

    Raises:
        UserError: the file cannot be read, is not JSON, or holds something else.
    """
    if not path.is_file():
        return empty
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}){_tail(hint)}") from error
    if not isinstance(value, type(empty)):
        found = _NAMES.get(type(value), "a number")
        raise UserError(f"{path} must hold {_NAMES[type(empty)]}, not {found}{_tail(hint)}")
    return value


def take(settings: Mapping[str, Any], key: str, kind: Kind, path: Path, hint: str = "") -> Any:  # noqa: ANN401
    """The value of a key, None where it is not there or null.

    Raises:
        UserError: it is of another kind.
    """
    value = settings.get(key)
    if value is not None and not kind.fits(value):
        raise UserError(f"{path}: {key}={value!r} must be {kind.name}{_tail(hint)}")
    return value


def _tail(hint: str) -> str:
    return f"; {hint}" if hint else ""


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""The lines of a file with their numbers from 1; each keeps its \n, which only the last may lack.

    `str.splitlines` also ends a line at U+2028, U+2029, U+0085 and five more, which JSON allows in a text.
    """
    with path.open("rb") as file:  # a file of bytes knows no other line end, one of text also takes \r
        yield from enumerate(file, start=1)


def read_jsonl(path: Path) -> Iterator[Any]:
    """The values of a file that this project wrote itself; blank lines are passed over."""
    for _, line in numbered_lines(path):
        if line.strip():
            yield json.loads(line)
