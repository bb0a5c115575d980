"""From the composed config to plain dataclasses. OmegaConf ends here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.nodes import check_fields, check_keys
from codiemb.config.schema import DataConfig, EvalConfig, RunConfig, SourceConfig, TrainConfig
from codiemb.config.script import explain
from codiemb.data.shards import files_of, refuse_twice, source_name
from codiemb.data.source_file import SourceFile
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
    """All training files with the names of their sources; `data.files` are named after their files.

    Raises:
        UserError: nothing to train on, two sources of one name, or a file named twice.
    """
    score_range = _range("data", data.score_range)
    if score_range != (0.0, 1.0) and data.sources and not data.files:
        raise UserError(
            f"data.score_range={data.score_range} is that of data.files, and there are none: a source has "
            f"its own, data.sources.{next(iter(data.sources))}.score_range=[LOWEST,HIGHEST]"
        )
    named = [(source_name(entry), entry) for entry in data.files]
    names = [*data.sources, *(name for name, _ in named)]
    if not names:
        raise UserError("no training file: set data.files=[a.jsonl,b.jsonl] or data=builtin")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two training files are named {name!r}; use +data.sources.NAME.path=FILE")
    files = [file for name, source in data.sources.items() for file in _files_of_source(name, source)]
    listed = [
        SourceFile(name, path, score_range)
        for name, entry in named
        for path in files_of("data.files", [entry])
    ]
    refuse_twice("data.files", [file.path for file in listed])
    return files + listed


def _files_of_source(name: str, source: SourceConfig) -> list[SourceFile]:
    key = f"data.sources.{name}"
    score_range = _range(key, source.score_range)
    paths = [source.path] if isinstance(source.path, str) else source.path
    return [SourceFile(name, path, score_range, source.in_batch) for path in files_of(f"{key}.path", paths)]


def _source(name: str, node: object) -> SourceConfig:
    key = f"data.sources.{name}"
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node} must be {{path: FILE}}; ~{key} takes a source out")
    check_keys(key, node, [field.name for field in fields(SourceConfig)])
    try:
        source = cast(SourceConfig, OmegaConf.to_object(OmegaConf.merge(SourceConfig, dict(node))))
    except OmegaConfBaseException as error:
        raise UserError(f"{key}: {error}") from error
    paths = source.path if isinstance(source.path, list) else [source.path]
    if not paths or not all(isinstance(path, str) for path in paths):
        raise UserError(f"{key}.path={source.path} must be a path, or a list of paths")
    return source


def _range(key: str, values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise UserError(f"{key}.score_range={values} must be [lowest, highest]")
    return values[0], values[1]
