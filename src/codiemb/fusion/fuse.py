"""Fuse model folders tensor by tensor: in memory are one tensor of each checkpoint and one output file."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from codiemb.atomic import write_text, written_whole
from codiemb.errors import UserError
from codiemb.fusion.adapter import ADAPTER_CONFIG
from codiemb.fusion.compare import check_base, check_distinct, check_same
from codiemb.fusion.method import FusionSpec, check_fusion
from codiemb.fusion.model_folder import INDEX_FILE, Checkpoint, open_checkpoint, read_json
from codiemb.fusion.record import fusion_record
from codiemb.fusion.shards import Shards
from codiemb.fusion.weights import TensorReport, fuse_tensor

FUSION_FILE = "fusion.json"
MAX_SHARD_BYTES = 2**30
_TEXTS = {".json", ".txt", ".model", ".jinja", ".py"}
_WEIGHTS = {".safetensors", ".bin"}
_OF_THE_FIRST_ALONE = {INDEX_FILE, "untrained.json", FUSION_FILE, ADAPTER_CONFIG}


def fuse(
    checkpoints: Sequence[str | Path],
    folder: str | Path,
    spec: FusionSpec | None = None,
    *,
    base: str | Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write the fusion of model folders as a folder of the first one's kind; whole or not at all.

    Config, tokenizer, prompts and pooling are the first checkpoint's. Weights are fused in float64 and
    written in the checkpoints' dtype. `fusion.json` records the options, every checkpoint's mean weight per
    tensor and overall, and how far it moved from the base.

    Args:
        checkpoints: at least two exports, Hugging Face folders, run folders or LoRA adapters.
        folder: replaced if it exists.
        spec: the method; default delta-guided.
        base: what all checkpoints were trained from; a soup does without.
        max_shard_bytes: the weights are split into files of about this size, and no more is kept in memory.

    Returns:
        The folder.

    Raises:
        UserError: the folders do not belong together, or are not models. Nothing is written then.
    """
    spec = spec or FusionSpec()
    check_fusion(spec, checkpoints, base)
    opened = [open_checkpoint(path, base) for path in checkpoints]
    for other in opened[1:]:
        check_same(opened[0], other)
    check_distinct(opened)
    origin = opened[0] if base is None else check_base(open_checkpoint(base), opened[0])
    with written_whole(Path(folder)) as temporary:
        _copy_texts(opened[0].folder, temporary)
        reports = _write_weights(spec, origin, opened, Shards(temporary, max_shard_bytes))
        record = fusion_record(spec, opened, origin, reports)
        write_text(temporary / FUSION_FILE, json.dumps(record, indent=2) + "\n")
    return Path(folder)


def _write_weights(
    spec: FusionSpec, origin: Checkpoint, checkpoints: list[Checkpoint], shards: Shards
) -> dict[str, TensorReport]:
    """Fuse and write every tensor.

    Integer tensors must agree. What the base lacks (a pooler, see check_base) is the first checkpoint's.
    """
    reports: dict[str, TensorReport] = {}
    for name in sorted(checkpoints[0].tensors):
        thetas = [checkpoint.read(name) for checkpoint in checkpoints]
        if not thetas[0].is_floating_point():
            _refuse_unequal(name, checkpoints, thetas)
        if not thetas[0].is_floating_point() or name not in origin.tensors:
            shards.add(name, thetas[0].clone())
            continue
        fused, reports[name] = fuse_tensor(spec, origin.read(name), thetas)
        if not fused.isfinite().all():
            _refuse_infinite(name, [*checkpoints, origin])
        shards.add(name, fused)
    shards.close()
    return reports


def _refuse_unequal(name: str, checkpoints: list[Checkpoint], thetas: list[Tensor]) -> None:
    for checkpoint, theta in zip(checkpoints, thetas, strict=True):
        if not torch.equal(theta, thetas[0]):
            raise UserError(
                f"{checkpoint.name} differs from {checkpoints[0].name} in {name}: {theta.dtype} has no mean"
            )


def _refuse_infinite(name: str, checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        if not checkpoint.read(name).isfinite().all():
            raise UserError(f"{checkpoint.name} has NaN or infinity in {name}: did its training diverge?")


def _copy_texts(source: Path, target: Path) -> None:
    """Everything that makes the folder a model but its weights; further modules must have none.

    Raises:
        UserError: a module of sentence-transformers after the model has weights of its own.
    """
    modules = read_json(source / "modules.json") or []
    folders = dict.fromkeys(["", *(Path(module["path"]).name for module in modules)])
    for folder in folders:
        for path in sorted((source / folder).glob("*")):
            if folder and path.suffix in _WEIGHTS:
                raise UserError(f"{path}: a module with weights of its own; only the model's can be fused")
            if path.is_file() and path.suffix in _TEXTS and path.name not in _OF_THE_FIRST_ALONE:
                (target / folder).mkdir(exist_ok=True)
                shutil.copyfile(path, target / folder / path.name)
