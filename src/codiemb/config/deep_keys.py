"""Keys inside a group, checked by the files of conf/ and the names of fields, not the schema itself."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.known_keys import FIELDS
from codiemb.errors import UserError
from codiemb.near import near


def check_deep_keys(conf: Path, root: str, overrides: Sequence[Override]) -> None:
    """Follow each key that is changed through the config; what this cannot tell is left to Hydra.

    Raises:
        UserError: naming the first key that is not there.
    """
    others = {
        each.key_or_group.split(".")[0]
        for each in overrides
        if each.is_add() or each.is_force_add() or each.is_delete()
    }
    keys = [each.key_or_group for each in overrides if "." in each.key_or_group]
    keys = [key for key in keys if key.split(".")[0] not in {*others, "hydra"}]
    choices = [each for each in overrides if (conf / each.key_or_group).is_dir()]
    if not keys or any(each.is_sweep_override() for each in choices):
        return
    try:
        cfg = _composed(conf.resolve(), root, tuple(str(each.input_line) for each in choices))
    except (HydraException, OmegaConfBaseException, OSError, ValueError):
        return
    for key in keys:
        _follow(key, cfg)


@functools.cache  # it takes 0.2 s, and tests ask hundreds of times for few choices
def _composed(conf: Path, root: str, choices: tuple[str, ...]) -> DictConfig:
    with _without_schema(root), initialize_config_dir(str(conf), version_base="1.3"):
        return compose(root, list(choices))


def _follow(key: str, cfg: DictConfig) -> None:
    parts = key.split(".")
    node: object = cfg
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        known = _fields(where) or (_names(node) if depth else None)
        if known is not None and part not in known:
            raise UserError(f"{where}.{part}: no such key in {where}; {near(part, known)}")
        node = _child(node, part)


def _fields(where: str) -> Iterable[str] | None:
    parent = where.rpartition(".")[0]
    return FIELDS.get(where) or FIELDS.get(f"{parent}.*")


def _names(node: object) -> list[str] | None:
    """The keys of a mapping that stands in a file; None where the schema may have more."""
    return [str(name) for name in node] if isinstance(node, DictConfig) and node else None


def _child(node: object, name: str) -> object:
    if not isinstance(node, DictConfig) or name not in node or OmegaConf.is_interpolation(node, name):
        return None
    return node[name]


@contextmanager
def _without_schema(root: str) -> Iterator[None]:
    """An empty one for the time of composing: the real one knows all fields, but torch comes with it."""
    schemas, name = ConfigStore.instance().repo, f"{root}_schema.yaml"
    real = schemas.get(name)
    ConfigStore.instance().store(name=f"{root}_schema", node={})
    try:
        yield
    finally:
        if real is not None:
            schemas[name] = real
