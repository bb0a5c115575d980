"""The keys of a dataclass or a constructor: name, type, default, and the meaning in its docstring."""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import NamedTuple

from torch import nn

_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")


class Key(NamedTuple):
    """One row of a table; `meaning` is empty where no docstring gives one."""

    name: str
    type: str
    default: str
    meaning: str


def of_dataclass(schema: type, prefix: str) -> list[Key]:
    """The keys of a dataclass and of those inside it, in order."""
    meanings, hints = meanings_of(schema, "Attributes"), typing.get_type_hints(schema)
    keys = []
    for field in fields(schema):
        if is_dataclass(hints[field.name]):
            keys += of_dataclass(hints[field.name], f"{prefix}{field.name}.")
        else:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            shown, meaning = show(default), meanings.get(field.name, "")
            keys.append(Key(prefix + field.name, type_name(hints[field.name]), shown, meaning))
    return keys


def of_callable(target: Callable[..., object], prefix: str, given: Sequence[str] = ()) -> list[Key]:
    """The arguments of a class or function, but those that the code gives itself."""
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    hints, meanings = typing.get_type_hints(function), meanings_of(target, "Args")
    keys = []
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name not in given and parameter.kind is not parameter.VAR_KEYWORD:
            default = "required" if parameter.default is parameter.empty else show(parameter.default)
            kind, meaning = type_name(hints[parameter.name]), meanings.get(parameter.name, "")
            keys.append(Key(prefix + parameter.name, kind, default, meaning))
    return keys


def meanings_of(described: object, section: str) -> dict[str, str]:
    """What its docstring, and those of its bases, say under `Attributes:` or `Args:`."""
    sources = reversed(described.__mro__) if isinstance(described, type) else [described]
    found: dict[str, str] = {}
    for source in sources:
        found |= entries(source.__dict__.get("__doc__", source.__doc__) or "", section)
    return found


def entries(docstring: str, section: str) -> dict[str, str]:
    """The entries of one section: `name: text`, or `name, other: text` for both; lines joined."""
    _, _, rest = inspect.cleandoc(docstring).partition(f"{section}:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in rest.splitlines():
        if line and not line.startswith("    "):
            break
        if start := _ENTRY.match(line):
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def type_name(hint: object) -> str:
    """`int | None` as `int or null`, `Literal["a", "b"]` as its values, a mapping as `mapping`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        names = dict.fromkeys(type_name(argument) for argument in arguments)
        if "float" in names:  # a float may be written as an integer
            names.pop("int", None)
        return " or ".join(sorted(names, key=lambda name: name == "null"))
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list of {type_name(arguments[0])}"
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, nn.Module):
        return "loss (`_target_`)"
    return str(getattr(hint, "__name__", hint))


def show(value: object) -> str:
    """A value as YAML writes it, in one line."""
    if value is MISSING or value == "???":
        return "required"
    return f"`{plain(value)}`"


def plain(value: object) -> str:
    """Likewise, without the quotes of code."""
    if isinstance(value, str):
        bare = re.fullmatch(r"[^\s,:{}\[\]\"]+|\$\{.*\}", value)
        return value if bare else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(plain, value)) + "]"
    return re.sub(r"e-0+", "e-", json.dumps(value))
