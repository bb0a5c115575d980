"""`_target_` nodes of a config: check their keys against the constructor's signature, and build them."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from codiemb.errors import UserError

_HYDRA_KEYS = frozenset({"_target_", "_partial_", "_args_", "_convert_", "_recursive_"})


def check_node(path: str, node: object, *, given: frozenset[str] = frozenset()) -> None:
    """Bind a `_target_`'s keys to its signature; nested targets likewise.

    Args:
        path: where the node stands in the config.
        node: the mapping with `_target_`.
        given: arguments that the code passes, so the config must not.

    Raises:
        UserError: naming the key, what is wrong and what was probably meant.
    """
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or not isinstance(target, str):
        raise UserError(f"{path} needs a _target_: the dotted name of a class or function")
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except Exception as error:
        raise UserError(f"{path}._target_={target}: cannot be imported ({error})") from error
    keys = {key: value for key, value in node.items() if key not in _HYDRA_KEYS}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(path, keys, [name for name in parameters if name not in given])
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in {*keys, *given}]
    if missing and "_args_" not in node and not node.get("_partial_"):
        raise UserError(f"{path} ({target}) also needs {', '.join(missing)}")
    for key, value in keys.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping) and "_target_" in inner:
                check_node(f"{path}.{key}", inner)


def target_of(node: Mapping[str, Any]) -> Any:  # noqa: ANN401  a class or a function
    """What a node's `_target_` names; None where it has none, or names nothing that can be imported."""
    try:
        return get_object(str(node["_target_"])) if "_target_" in node else None
    except Exception:  # as above: whatever importing it raises
        return None


def check_keys(path: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """Refuse unknown keys, with the closest known one."""
    known = [name for name in known if name != "self"]
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            raise UserError(f"{path}.{key}: no such key; {meant}".removeprefix("."))


def check_fields(path: str, value: object) -> None:
    """Refuse attributes that a dataclass does not declare: `+key=value` gets them past OmegaConf."""
    if is_dataclass(value):
        check_keys(path, vars(value), [field.name for field in fields(value)])
        for name, inner in vars(value).items():
            check_fields(f"{path}.{name}", inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            check_fields(f"{path}.{name}", inner)


def build_node(
    path: str, node: Mapping[str, Any], *, partial: bool = False, given: frozenset[str] = frozenset()
) -> Any:  # noqa: ANN401  whatever `_target_` names
    """Check a node and instantiate it.

    Args:
        path: where the node stands in the config.
        node: the mapping with `_target_`.
        partial: a function that takes what is `given` instead of an object.
        given: arguments that the code passes, so the config must not.

    Raises:
        UserError: `check_node` or the constructor refuses it; anything else is not the user's and keeps its
            traceback.
    """
    check_node(path, node, given=given)
    try:
        return instantiate(node, _convert_="all", _partial_=partial)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError | TypeError):
            raise UserError(f"{path}: {error.__cause__}") from error
        raise


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variadic and parameter.name != "self"
