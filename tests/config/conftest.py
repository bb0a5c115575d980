"""Configurations, composed as Hydra does it but once for all tests."""

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from codiemb.config.preflight import preflight
from codiemb.config.schema import register
from codiemb.config.typed import typed_train
from codiemb.errors import UserError
from tests.support.paths import CONF

Compose = Callable[..., DictConfig]
register()


@pytest.fixture
def conf_copy(tmp_path: Path) -> Path:
    """A copy of conf/ to which a test adds files; `composed` then reads it."""
    return Path(shutil.copytree(CONF, tmp_path / "conf"))


@pytest.fixture
def composed(request: pytest.FixtureRequest, tmp_path: Path) -> Compose:
    """`composed("seed=1")` is what `python run_train.py seed=1` gets; `root="eval"` is run_eval.py."""

    def compose_config(*overrides: str, root: str = "train") -> DictConfig:
        overrides = (f"run_dir={tmp_path}", *overrides)
        if "conf_copy" in request.fixturenames:
            return _compose(tmp_path / "conf", root, overrides)
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        first = (o for o in parsed if (CONF / o.key_or_group).is_dir() or o.key_or_group.startswith("hydra."))
        choices = list(first)
        # With the same choices of groups Hydra composes the same again (0.2 s) and then applies the others.
        cfg = copy.deepcopy(_compose_once(root, tuple(str(choice.input_line) for choice in choices)))
        ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if o not in choices], cfg)
        return cfg

    return compose_config


@pytest.fixture
def refused(composed: Compose) -> Callable[..., str]:
    """The message of the UserError that a training config dies of."""

    def message(*overrides: str) -> str:
        cfg = composed(*overrides)  # Hydra itself must have no objection
        with pytest.raises(UserError) as error:
            preflight(typed_train(cfg))
        return str(error.value)

    return message


def _compose(folder: Path, root: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(root, overrides=list(overrides))


@functools.cache
def _compose_once(root: str, choices: tuple[str, ...]) -> DictConfig:
    return _compose(CONF, root, choices)
