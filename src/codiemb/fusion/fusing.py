"""Fuse model folders tensor by tensor: in memory are one tensor of each checkpoint and one output file."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from codiemb.atomic import write_text, written_whole
from codiemb.encoder.model_files import ADAPTER_CONFIG
from codiemb.errors import UserError
from codiemb.fusion.checkpoint import INDEX_FILE, Checkpoint, open_checkpoint
from codiemb.fusion.compare import check_base, check_distinct, check_same, check_weights
from codiemb.fusion.method import FusionSpec, check_fusion
from codiemb.fusion.names import is_buffer, is_head, is_table
from codiemb.fusion.record import fusion_record
from codiemb.fusion.scale import tensor_scales
from codiemb.fusion.shards import Shards
from codiemb.fusion.weights import TensorReport, fuse_tensor
from codiemb.json_files import COPY_AGAIN, read_json

log = logging.getLogger(__name__)

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
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write the fusion of model folders as a folder of the first one's kind; whole or not at all.

    Config, tokenizer, prompts and pooling are the first checkpoint's. Weights are fused in float64 and
    rounded once. `fusion.json` records the options, every checkpoint's mean weight per
    tensor and overall, and how far it moved from the base.

    Args:
        checkpoints: exports, Hugging Face folders, run folders or LoRA adapters; a single one is averaged
            with the base by `spec.scale`.
        folder: replaced if it exists.
        spec: the method; default delta-guided.
        base: what all checkpoints were trained from; a soup does without.
        dtype: of the weights that are written, as `bfloat16`; None takes the checkpoints'.
        max_shard_bytes: the weights are split into files of about this size, and no more is kept in memory.

    Returns:
        The folder.

    Raises:
        UserError: the folders do not belong together, or are not models. Nothing is written then.
    """
    spec = spec or FusionSpec()
    check_fusion(spec, checkpoints, base)
    opened = [open_checkpoint(path, base) for path in checkpoints]
    check_weights(opened[0])
    for other in opened[1:]:
        check_same(opened[0], other)
    check_distinct(opened)
    origin = opened[0] if base is None else check_base(open_checkpoint(base), opened[0])
    with written_whole(Path(folder)) as temporary:
        _copy_texts(opened[0].folder, temporary)
        shards = Shards(temporary, max_shard_bytes)
        reports, scales = _write_weights(spec, origin, opened, shards, dtype)
        if dtype is not None:
            _state_dtype(temporary / "config.json", dtype)
        record = fusion_record(spec, opened, origin, reports, scales)
        write_text(temporary / FUSION_FILE, json.dumps(record, indent=2) + "\n")
    return Path(folder)


def _write_weights(
    spec: FusionSpec, origin: Checkpoint, checkpoints: list[Checkpoint], shards: Shards, dtype: str | None
) -> tuple[dict[str, TensorReport], dict[str, float]]:
    """Fuse and write every tensor that all checkpoints have, under the first one's names.

    Integer tensors must agree. Buffers are the first checkpoint's, and so is a pooler that the base lacks.

    Returns:
        What there is to tell of each fused tensor, and its scale.
    """
    reports: dict[str, TensorReport] = {}
    first, names = checkpoints[0], _shared_names(origin, checkpoints)
    fused_names = [n for n in names if n in origin.tensors and not is_buffer(n, first.tensors[n].dtype)]
    scales = tensor_scales(spec, origin, checkpoints, fused_names)
    wanted = None if dtype is None else getattr(torch, dtype)
    for name in names:
        stored = first.stored[name]
        if name not in scales:
            if is_buffer(name, first.tensors[name].dtype) and not is_table(name):
                _refuse_unequal(name, checkpoints)
            kept = first.read(name).clone()
            shards.add(stored, kept if is_buffer(name, first.tensors[name].dtype) else kept.to(wanted))
            continue
        # one tensor of each checkpoint at a time: a fusion of 2B models fits a laptop
        thetas = [checkpoint.read(name) for checkpoint in checkpoints]
        fused, reports[name] = fuse_tensor(spec, origin.read(name), thetas, scales[name], wanted)
        if not fused.isfinite().all():
            _refuse_infinite(name, [*checkpoints, origin])
        shards.add(stored, fused)
    shards.close()
    return reports, scales


def _state_dtype(config: Path, dtype: str) -> None:
    stated = read_json(config, {}, COPY_AGAIN)
    stated.pop("torch_dtype", None)  # of transformers 4
    write_text(config, json.dumps(stated | {"dtype": dtype}, indent=2) + "\n")


def _shared_names(origin: Checkpoint, checkpoints: list[Checkpoint]) -> list[str]:
    """What is written; what is not is logged: heads, poolers, buffers that one side lacks or has otherwise.

    A head that the base lacks is left out as well: where it is tied to the token embeddings, the first
    checkpoint's would no longer be.
    """
    first = checkpoints[0].tensors
    shared = [
        name
        for name, info in first.items()
        if all(checkpoint.tensors.get(name) == info for checkpoint in checkpoints)
        and (name in origin.tensors or not is_head(name))
    ]
    left_out = sorted({name for side in [*checkpoints, origin] for name in side.tensors} - set(shared))
    if left_out:
        log.info(
            "not every checkpoint and the base have the same %s: left out, no embedding depends on them",
            ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""),
        )
    return sorted(shared)


def _refuse_unequal(name: str, checkpoints: list[Checkpoint]) -> None:
    first = checkpoints[0].read(name)
    for checkpoint in checkpoints[1:]:
        theta = checkpoint.read(name)
        if not torch.equal(theta, first):
            raise UserError(
                f"{checkpoint.name} differs from {checkpoints[0].name} in {name}: {theta.dtype} has no mean"
            )


def _refuse_infinite(name: str, checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        if not checkpoint.read(name).isfinite().all():
            raise UserError(f"{checkpoint.name} has NaN or infinity in {name}: did its training diverge?")


def _module_folders(path: Path) -> list[str]:
    rows = read_json(path, [], COPY_AGAIN)
    if not all(isinstance(row, dict) and isinstance(row.get("path"), str) for row in rows):
        raise UserError(f"{path} is not a list of modules, each with a path; copy the folder again")
    return [Path(row["path"]).name for row in rows]


def _copy_texts(source: Path, target: Path) -> None:
    """Everything that makes the folder a model but its weights; further modules must have none.

    Raises:
        UserError: a module of sentence-transformers after the model has weights of its own.
    """
    folders = dict.fromkeys(["", *_module_folders(source / "modules.json")])
    for folder in folders:
        for path in sorted((source / folder).glob("*")):
            if folder and path.suffix in _WEIGHTS:
                raise UserError(f"{path}: a module with weights of its own; only the model's can be fused")
            if path.is_file() and path.suffix in _TEXTS and path.name not in _OF_THE_FIRST_ALONE:
                (target / folder).mkdir(exist_ok=True)
                shutil.copyfile(path, target / folder / path.name)
