"""fuse_with_start: a training run keeps what it started from, and ends with an average of start and end."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from codiemb.config import run_folder
from codiemb.config.assemble import Assembled
from codiemb.config.folder_scores import FolderScores
from codiemb.config.fuse_checks import SEARCH
from codiemb.config.fuse_search import search
from codiemb.config.schema import FuseConfig, TrainConfig
from codiemb.config.task import Evaluations, build_evaluator, dev_task, warn_of_same_texts
from codiemb.export import export_sentence_transformer
from codiemb.fusion import fuse
from codiemb.tables import Sheet

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger(__name__)

START, TRAINED, FUSED = "start", "trained", "export"  # folders of such a run


class Fused(NamedTuple):
    """What came of it."""

    scale: float
    evaluation: "Evaluation | None"
    sheets: list[Sheet]

    @property
    def about(self) -> str:
        """For the model card."""
        return f"Then averaged with its start: {self.scale:g} of the way from there is kept."


def dev_evaluator(cfg: TrainConfig, final: "Evaluator | None" = None) -> "Evaluator | None":
    """All tasks on their dev side, where a search will choose by them; `final` is reported in the end.

    Raises:
        UserError: as `build_evaluator`.
    """
    if cfg.fuse_with_start != SEARCH:
        return None
    dev = build_evaluator(dev_task(cfg.task, []))
    warn_of_same_texts(final, dev)
    return dev


def keep_start(cfg: TrainConfig, run: Assembled) -> None:
    """Write the untrained model; a resumed run has it already, and would write the same."""
    folder = Path(cfg.run_dir) / START
    if cfg.resume and (folder / "config.json").is_file():
        return
    export_sentence_transformer(
        run.encoder,
        folder,
        query_instruction=query_instruction(cfg, run),
        instructions=run.data.instructions(),
    )


def query_instruction(cfg: TrainConfig, run: Assembled) -> str:
    """Of the folders that a run exports: as the config has it, else that of the data."""
    chosen = cfg.export.query_instruction
    return run.data.query_instruction() if chosen is None else chosen


def fuse_with_start(cfg: TrainConfig, run: Assembled, evaluations: Evaluations) -> Fused:
    """Average the run's two folders into its export, on rank 0; evaluate that as the trained model was."""
    run_dir, device = Path(cfg.run_dir), run.trainer.strategy.root_device
    folders = FolderScores(run.model, cfg.seed, device, cfg.encoder.encode_precision)
    run.encoder.to("cpu")  # there need not be room for two
    spec = FuseConfig(checkpoints=[str(run_dir / TRAINED)], base=str(run_dir / START))
    sheets = []
    if (dev := evaluations.choice) is None:
        spec.scale = float(cfg.fuse_with_start)
    else:
        spec, trials = search(spec, run_dir, partial(folders.main_scores, dev))
        sheets.append(trials)
    folder = fuse(spec.checkpoints, run_dir / FUSED, spec, base=spec.base, dtype=cfg.export.dtype)
    log.info("export: %s, %g of the way from %s to %s", folder, spec.scale, START, TRAINED)
    run_folder.link_latest(folder, run_dir)
    evaluation = None
    if evaluations.task is not None and cfg.evaluate.after:
        evaluation = folders.evaluate(evaluations.task, folder, name=cfg.model.name, bm25=cfg.task.baseline)
    return Fused(spec.scale, evaluation, sheets)
