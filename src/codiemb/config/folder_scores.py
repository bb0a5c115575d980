"""Score a model folder as it lies on the disk: an export, a checkpoint, a fusion of some."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from codiemb.config.task import run_evaluation
from codiemb.encoder import Encoder, LoraSpec, ModelSpec, load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderScores:
    """How a run evaluates model folders: each with its own settings.

    Attributes:
        model: whose weights, adapters and tokenizer a folder takes the place of, and what a folder does not
            state.
        seed: of the run, for the record.
        device: to evaluate on.
        precision: `Encoder.encode_precision`.
    """

    model: ModelSpec
    seed: int
    device: torch.device | str = "cpu"
    precision: str = "32-true"

    def evaluate(
        self, evaluator: "Evaluator", folder: Path, *, name: str | None = None, bm25: bool = False
    ) -> "Evaluation":
        """All scores of a folder; `name` is for tables and logs, else its path; `bm25` scores that, too."""
        name = name or str(folder)
        encoder = self._load(folder, name)
        return run_evaluation(evaluator, encoder, name, report=log.info, bm25=bm25, seed=self.seed)

    def main_scores(self, evaluator: "Evaluator", folder: Path) -> dict[str, float]:
        """Main score by task, of one folder among many (`Evaluator.scores`)."""
        return evaluator.scores(self._load(folder, str(folder)))

    def _load(self, folder: Path, name: str) -> Encoder:
        spec = replace(
            self.model,
            name=name,
            path=str(folder),
            subfolder="",
            weights=None,
            tokenizer=None,
            lora=LoraSpec(),
        )
        log.info("evaluating %s", folder)
        encoder = load_encoder(spec)
        encoder.encode_precision = self.precision
        use_cpu_kernels(encoder.backbone)
        return encoder.to(self.device)
