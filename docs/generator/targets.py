"""The keys of what `_target_`s build: of our classes by their docstrings, of others by `OTHERS`."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hydra.utils import get_object

from docs.generator.files import ConfigFile, files_of
from docs.generator.keys import Key, of_callable, show
from docs.generator.others import OTHERS


class Target(NamedTuple):
    """A class that a group's files build, where it stands, and all values that the files set for it."""

    path: str  # callbacks.probe; of a group with one target, the group
    name: str  # dotted, of the class
    values: dict[str, Any]


def targets_of(group: str) -> list[Target]:
    """Every `_target_` of a group once, in the order of its files."""
    files = {file.choice: file for file in files_of(group)}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files.values():
        for path, node in _nodes(group, file.values):
            name = node.get("_target_") or _target_of_base(file, files)
            if name is not None:
                values = found.setdefault((path, name), {})
                values |= {key: value for key, value in leaves(node) if key not in values}
    return [Target(path, name, values) for (path, name), values in found.items()]


def _nodes(group: str, values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The group itself, or its entries by name (callbacks, loggers)."""
    entries = [(f"{group}.{name}", node) for name, node in values.items() if isinstance(node, Mapping)]
    named = [(path, node) for path, node in entries if "_target_" in node]
    return named or [(group, values)]


def _target_of_base(file: ConfigFile, files: Mapping[str, ConfigFile]) -> str | None:
    bases = [files[base] for base in file.bases if base in files]
    return next((base.values["_target_"] for base in bases if "_target_" in base.values), None)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, without `_target_`."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield prefix + key, value


def keys_of(target: Target) -> list[Key]:
    """Its arguments; the default is what the files set, or else the constructor's."""
    if target.name in OTHERS or not target.name.startswith("codiemb."):
        return explained(target.path, target.name, target.values)
    keys = of_callable(get_object(target.name), "")
    return [
        key._replace(
            name=f"{target.path}.{key.name}",
            default=show(target.values[key.name]) if key.name in target.values else key.default,
        )
        for key in keys
    ]


def explained(path: str, name: str, values: Mapping[str, Any]) -> list[Key]:
    """The keys of `values` with the type and meaning that OTHERS has for them."""
    known = OTHERS.get(name, {})
    return [
        Key(f"{path}.{key}", *_type_default(known.get(key, ("", ""))[0], value), known.get(key, ("", ""))[1])
        for key, value in values.items()
    ]


def _type_default(kind: str, value: object) -> tuple[str, str]:
    return kind, show(value)
