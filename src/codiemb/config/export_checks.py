"""The keys of `export`: what could only fail after hours of training is refused before it."""

from importlib import metadata

from codiemb.config.schema import TrainConfig
from codiemb.encoder import ModelSpec
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.encoder.model_files import settings_folder
from codiemb.encoder.spec import CHOICES
from codiemb.errors import UserError
from codiemb.export.onnx import why_not_onnx
from codiemb.export.push import check_hub, check_name
from codiemb.json_files import read_json


def check_export(cfg: TrainConfig) -> None:
    """Refuse impossible values; asks no network.

    Raises:
        UserError: naming the key.
    """
    export = cfg.export
    if cfg.fuse is not None and export.dtype is not None:
        raise UserError(
            "export.dtype says nothing about stage=fuse: a fusion has the dtype of its checkpoints"
        )
    if export.dtype is not None and export.dtype not in CHOICES["dtype"]:
        raise UserError(f"export.dtype={export.dtype!r} is none of {', '.join(map(str, CHOICES['dtype']))}")
    if export.push_to_hub is not None:
        check_name(export.push_to_hub)
        if not export.enabled:
            raise UserError("export.push_to_hub needs what export.enabled=false does not write")
    _check_instruction(export.query_instruction, cfg.model)
    if export.onnx:
        raise UserError(f"export.onnx=true: {_why_no_onnx(_model_type(cfg.model))}")


def _check_instruction(instruction: str | None, model: ModelSpec) -> None:
    prompt = with_folder_settings(model)[0].prompt.query
    if instruction and "{instruction}" not in prompt:
        raise UserError(
            f"export.query_instruction={instruction!r} would go nowhere: the prompt of this model's queries "
            f"is {prompt!r}, without {{instruction}}; set model.prompt.query"
        )


def check_destination(cfg: TrainConfig) -> None:
    """Ask the hub whether it would take the export, where one is to be pushed.

    Raises:
        UserError: no token, no hub, or a token that the hub refuses.
    """
    if cfg.export.push_to_hub is not None:
        check_hub(cfg.export.push_to_hub)


def _why_no_onnx(model_type: str) -> str:
    return why_not_onnx(model_type) or (
        "sentence-transformers writes ONNX through optimum-onnx, whose newest release (0.1.0) needs "
        f"transformers below 4.58, and this environment has {metadata.version('transformers')}. An "
        "environment of its own can do it: docs/export.md, ONNX"
    )


def _model_type(model: ModelSpec) -> str:
    folder = settings_folder(model)
    stated = model.architecture if folder is None else read_json(folder / "config.json", {})
    return str(stated.get("model_type", "model of unknown type"))
