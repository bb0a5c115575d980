"""Score a model folder as it lies on the disk: an export, a checkpoint, a fusion of some."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from codiemb.config.task import run_evaluation
from codiemb.encoder import Encoder, LoraSpec, ModelSpec, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger(__name__)


def evaluate_folder(
    model: ModelSpec,
    evaluator: "Evaluator",
    folder: Path,
    *,
    seed: int,
    name: str | None = None,
    device: torch.device | str = "cpu",
    precision: str = "32-true",
    bm25: bool = False,
) -> "Evaluation":
    """Evaluate a folder with its own settings; those of `model` where it states none.

    Args:
        model: whose weights, adapters and tokenizer the folder takes the place of.
        evaluator: the tasks.
        folder: a model folder.
        seed: of the run, for the record.
        name: for tables and logs; None: the folder's path.
        device: to evaluate on.
        precision: `Encoder.encode_precision`.
        bm25: also score BM25.
    """
    encoder = _load(model, folder, name or str(folder), device, precision)
    return run_evaluation(evaluator, encoder, name or str(folder), report=log.info, bm25=bm25, seed=seed)


def score_folder(
    model: ModelSpec,
    evaluator: "Evaluator",
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    precision: str = "32-true",
) -> dict[str, float]:
    """Main score by task, of one folder among many (`Evaluator.scores`)."""
    return evaluator.scores(_load(model, folder, str(folder), device, precision))


def _load(model: ModelSpec, folder: Path, name: str, device: torch.device | str, precision: str) -> Encoder:
    spec = replace(
        model,
        name=name,
        path=str(folder),
        subfolder="",
        weights=None,
        tokenizer=None,
        lora=LoraSpec(),
    )
    log.info("evaluating %s", folder)
    encoder = load_encoder(spec)
    encoder.encode_precision = precision
    use_cpu_kernels(encoder.backbone)
    return encoder.to(device)
