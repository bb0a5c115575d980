"""A step's parameters, a dataclass, from a YAML file and the command line: typed, and no unknown key."""

import argparse
import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_origin

from pydantic import TypeAdapter, ValidationError

from codiemb.errors import UserError

Options = TypeVar("Options")


def option(default: Any, about: str, name: str = "") -> Any:  # noqa: ANN401  like dataclasses.field
    """A field with a line of help; `name` where the option cannot be called as the field (`from`)."""
    extra = {"about": about, "name": name}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=extra)
    return dataclasses.field(default=default, metadata=extra)


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """One `--name` for each field; values stay strings until `build` reads them."""
    for name, field in _fields(kind).items():
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        shown = "" if default in (None, "", []) else f" (default: {_shown(default)})"
        flag = f"--{name.replace('_', '-')}"
        if field.type is bool:
            parser.add_argument(
                flag,
                dest=name,
                default=argparse.SUPPRESS,
                action=argparse.BooleanOptionalAction,
                help=field.metadata["about"] + shown,
            )
        else:
            text = field.metadata["about"].replace("%", "%%") + shown
            parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, metavar="X", help=text)


def given(kind: type, parsed: argparse.Namespace) -> dict[str, Any]:
    """What stood on the command line, by option name."""
    return {name: getattr(parsed, name) for name in _fields(kind) if hasattr(parsed, name)}


def build(kind: type[Options], values: Mapping[str, Any], where: str) -> Options:
    """The parameters of a step; strings of the command line are read as the type that a field has.

    Raises:
        UserError: a key that there is none of (with the nearest), or a value of another type.
    """
    fields = _fields(kind)
    for key in values:
        if key not in fields:
            close = get_close_matches(str(key).replace("-", "_"), fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
            raise UserError(f"{where}: unknown option {key!r}; {hint}")
    read = {fields[key].name: _read(value, fields[key]) for key, value in values.items()}
    try:
        return TypeAdapter(kind).validate_python(read)
    except ValidationError as error:
        problems = [
            f"{where}: {_place(each['loc'], fields)}={each['input']!r}: {each['msg']}"
            for each in error.errors()
        ]
        raise UserError("\n".join(problems)) from error


def as_values(options: Any) -> dict[str, Any]:  # noqa: ANN401  any dataclass
    """By option name, as JSON and YAML hold them."""
    return {name: getattr(options, field.name) for name, field in _fields(type(options)).items()}


def _fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.metadata["name"] or field.name: field for field in dataclasses.fields(kind)}


def _read(value: Any, field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401  whatever YAML or a shell holds
    if not isinstance(value, str):
        return value
    if value == "null":
        return None
    if get_origin(field.type) is list:
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


def _place(parts: tuple[int | str, ...], fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    """The option that an error is about, as the user wrote it: `from`, `languages.0`."""
    options = {field.name: name for name, field in fields.items()}
    return ".".join(options.get(str(part), str(part)) for part in parts)


def _shown(default: Any) -> str:  # noqa: ANN401
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)
