"""The files of conf: what each is for, what it sets, and which groups it chooses otherwise."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from docs.generator.keys import plain

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
_BY_NAME = ("architecture", "sources", "instructions")  # long: their names are enough


class ConfigFile(NamedTuple):
    """One choice of a group."""

    choice: str
    purpose: str
    bases: list[str]  # files that it starts from
    sets: list[str]
    values: dict[str, Any]


def groups() -> set[str]:
    """Folders of conf that hold files; parts of experiments and of debug are no groups."""
    folders = {str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {"."}
    return {each for each in folders if not each.startswith(("experiment/", "debug/"))} | {"experiment"}


def files_of(group: str) -> list[ConfigFile]:
    """The files of a group, by name."""
    folder = CONF / group
    paths = folder.rglob("*.yaml") if group == "experiment" else folder.glob("*.yaml")
    return [read(path, folder) for path in sorted(paths)]


def read(path: Path, folder: Path = CONF) -> ConfigFile:
    """Parse one file.

    Raises:
        ValueError: it does not begin with a comment that says what it is for.
    """
    text = path.read_text("utf-8")
    values = yaml.safe_load(text) or {}
    defaults = values.pop("defaults", [])
    bases = [str(base).removeprefix("/") for base in defaults if isinstance(base, str) and base != "_self_"]
    return ConfigFile(
        choice=str(path.relative_to(folder).with_suffix("")),
        purpose=_first_sentence(text, path),
        bases=bases,
        sets=[*_chosen(defaults), *(f"{key}={value}".removeprefix("=") for key, value in _leaves(values))],
        values=values,
    )


def _first_sentence(text: str, path: Path) -> str:
    comment = []
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("#  "):  # an example is further in
            break
        if not line.startswith("# @package"):
            comment.append(line.lstrip("# "))
    sentence = (" ".join(comment) + " ").partition(". ")[0].strip(" .:")
    if not sentence:
        raise ValueError(f"{path.relative_to(ROOT)} must begin with a comment: what is it for?")
    return sentence


def _chosen(defaults: list[Any]) -> Iterator[str]:
    """The groups that a defaults list chooses."""
    for entry in defaults:
        if isinstance(entry, Mapping):
            for group, choice in entry.items():
                yield f"{str(group).removeprefix('override ').removeprefix('/')}={plain(choice)}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values; a `_target_` with its arguments is one value."""
    if "_target_" in values:
        yield prefix.removesuffix("."), _call(values)
        return
    for key, value in values.items():
        if key in _BY_NAME and isinstance(value, Mapping) and value:
            shown = (
                {"model_type": value["model_type"]} if "model_type" in value else dict.fromkeys(value, "...")
            )
            yield f"{prefix}{key}", plain(shown)
        elif isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)


def _call(node: object) -> str:
    """`InfoNCE(temperature=0.02)`."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return plain(node)
    arguments = ", ".join(f"{key}={_call(value)}" for key, value in node.items() if key != "_target_")
    return f"{node['_target_'].rpartition('.')[2]}({arguments})"
