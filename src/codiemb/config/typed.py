"""From the composed config to plain dataclasses. OmegaConf ends here."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.nodes import check_fields, check_keys
from codiemb.config.schema import DataConfig, EvalConfig, RunConfig, SourceConfig, TrainConfig
from codiemb.config.script import explain
from codiemb.data.source import SourceFile
from codiemb.errors import UserError


def typed(cfg: DictConfig) -> RunConfig:
    """The composed config as the plain dataclasses and containers that the rest of the code reads.

    Raises:
        UserError: a key that the schema does not know, or a value that cannot be had.
    """
    try:
        plain = cast(RunConfig, OmegaConf.to_object(cfg))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    check_fields("", plain)
    return plain


def typed_train(cfg: DictConfig) -> TrainConfig:
    """`typed`, for train.yaml."""
    plain = cast(TrainConfig, typed(cfg))
    plain.data.sources = {name: _source(name, node) for name, node in plain.data.sources.items()}
    return plain


def typed_eval(cfg: DictConfig) -> EvalConfig:
    """`typed`, for eval.yaml."""
    return cast(EvalConfig, typed(cfg))


def source_files(data: DataConfig) -> list[SourceFile]:
    """All training files with their names; `data.files` are named after their files.

    Raises:
        UserError: nothing to train on, or two files of one name.
    """
    files = [
        SourceFile(
            name, Path(source.path), _range(f"data.sources.{name}", source.score_range), source.in_batch
        )
        for name, source in data.sources.items()
    ]
    score_range = _range("data", data.score_range)
    files += [SourceFile(Path(path).stem, Path(path), score_range) for path in data.files]
    if not files:
        raise UserError("no training file: set data.files=[a.jsonl,b.jsonl] or data=builtin")
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two training files are named {name!r}; use +data.sources.NAME.path=FILE")
    return files


def _source(name: str, node: object) -> SourceConfig:
    key = f"data.sources.{name}"
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node} must be {{path: FILE}}; ~{key} takes a source out")
    check_keys(key, node, [field.name for field in fields(SourceConfig)])
    try:
        return cast(SourceConfig, OmegaConf.to_object(OmegaConf.merge(SourceConfig, dict(node))))
    except OmegaConfBaseException as error:
        raise UserError(f"{key}: {error}") from error


def _range(key: str, values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise UserError(f"{key}.score_range={values} must be [lowest, highest]")
    return values[0], values[1]
