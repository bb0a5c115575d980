"""What a config takes from the environment stays an interpolation in every copy of it: it may be a secret."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from codiemb.errors import UserError

# \0 and \1 stand for ${ and } of a name until all is resolved: no grammar reads them
_PLAIN = re.compile(r"[\w./:@%+-]+|\x00[^\x00]*\x01")  # a default that needs no quotes
_NAMES = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
_SHORTEST = 4  # letters of a value that `masked` replaces: "1" or "no" are no secrets, and everywhere


def recorded(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as a plain dictionary, but `${oc.env:NAME}` stays as it is.

    Also where a value comes by way of other keys, with a default, or in the middle of a text. A key that must
    be a number keeps the interpolation it has.
    """
    with _names_for_values():
        return cast(dict[str, Any], _plain(cfg))


def masked(text: str, cfg: DictConfig) -> str:
    """A message without the values that the config takes from the environment: their names instead."""
    for name in set(_NAMES.findall(OmegaConf.to_yaml(cfg))):
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"${{oc.env:{name}}}")
    return text


def with_environment(value: object) -> object:
    """A recorded value as the present environment has it.

    Raises:
        UserError: a variable is not there.
    """
    if not isinstance(value, str) or not _NAMES.search(value):
        return value
    try:
        return OmegaConf.create({"value": value}).value
    except OmegaConfBaseException as error:
        raise UserError(
            f"{value} cannot be had from the environment: {str(error).partition(chr(10))[0]}"
        ) from error


@contextmanager
def _names_for_values() -> Iterator[None]:
    OmegaConf.register_new_resolver("oc.env", _named, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _named(name: str, *default: object) -> str:
    """What stands in for a value."""
    return "\0oc.env:" + ",".join([name, *map(_quoted, default)]) + "\1"


def _quoted(default: object) -> str:
    text = "null" if default is None else str(default)
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", r"\'") + "'"


def _unmarked(text: str) -> str:
    """As a config file has it: what is no interpolation but looks like one is escaped."""
    return text.replace("${", r"\${").replace("\0", "${").replace("\1", "}")


def _plain(node: object) -> object:
    """A container without its interpolations."""
    if isinstance(node, DictConfig):
        return {key: _value(node, key) for key in node}
    if isinstance(node, ListConfig):
        return [_value(node, index) for index in range(len(node))]
    return _unmarked(node) if isinstance(node, str) else node


def _value(parent: DictConfig | ListConfig, key: Any) -> object:  # noqa: ANN401  a name or an index
    if OmegaConf.is_missing(parent, key):
        return "???"
    try:
        return _plain(parent[key])
    except OmegaConfBaseException:  # a name is no number
        return cast(Any, OmegaConf.to_container(parent, resolve=False))[key]
