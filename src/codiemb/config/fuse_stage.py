"""stage=fuse: fuse checkpoints into an export and evaluate it beside them. No data, no trainer."""

import json
import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from codiemb.atomic import write_text
from codiemb.config import run_folder
from codiemb.config.accelerator import accelerator
from codiemb.config.folder_scores import FolderScores
from codiemb.config.fuse_search import search
from codiemb.config.fused_card import fused_card, write_fused_card
from codiemb.config.model_card import with_results
from codiemb.config.result import write_result
from codiemb.config.schema import FuseConfig, TrainConfig
from codiemb.config.task import build_evaluator, console, show_and_save, warn_of_same_texts
from codiemb.encoder.model_files import is_adapter
from codiemb.export.push import push
from codiemb.fusion import FUSION_FILE, fuse, model_folder
from codiemb.report import write_report
from codiemb.tables import Sheet

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger(__name__)


def run(config: DictConfig, cfg: TrainConfig, spec: FuseConfig, evaluator: "Evaluator | None") -> None:
    """Fuse, evaluate, print the tables; leaves what a training run leaves: export/, evaluation/, result.json.

    Raises:
        UserError: the checkpoints cannot be fused.
    """
    started = time.perf_counter()
    run_dir, device = Path(cfg.run_dir), accelerator(cfg.trainer.get("accelerator", "auto"))
    folders = FolderScores(cfg.model, cfg.seed, device, cfg.encoder.encode_precision)
    run_folder.record_run(config, run_dir)
    sheets = []
    if spec.search:
        dev = build_evaluator(replace(cfg.task, split="dev"))
        warn_of_same_texts(evaluator, dev)
        spec, trials = search(spec, run_dir, partial(folders.main_scores, dev))
        sheets.append(trials)
    folder = fuse(spec.checkpoints, run_dir / "export", spec, base=spec.base)
    log_weights(folder)
    card = fused_card(folder, spec.base, cfg.export.push_to_hub)
    scores: dict[str, float] = {}
    if evaluator is not None and cfg.evaluate.after:
        columns = _sources(folders, evaluator, spec) if cfg.evaluate.before else {}
        fused = folders.evaluate(evaluator, folder)
        scores, card = fused.scores, with_results(card, fused, None)
        sheets += _save(cfg, spec, fused, columns)
    write_fused_card(folder, card)
    for sheet in sheets:
        console().print(sheet.rich())
    seconds = time.perf_counter() - started
    write_result(run_dir, scores, seconds)
    run_folder.link_latest(folder, run_dir)
    write_report(run_dir)
    log.info("finished in %.0f s, model: SentenceTransformer(%r)", seconds, str(folder))
    if cfg.export.push_to_hub is not None:
        log.info("uploaded to %s", push(folder, cfg.export.push_to_hub))


def _sources(scores: FolderScores, evaluator: "Evaluator", spec: FuseConfig) -> "dict[str, Evaluation]":
    """By number, the checkpoints that are models by themselves; first the base, if a part of it is kept."""
    named = {"Base": spec.base} if spec.base is not None and spec.scale < 1 else {}
    named |= {str(number): path for number, path in enumerate(spec.checkpoints, 1)}
    folders = {name: Path(path) for name, path in named.items() if not is_adapter(Path(path))}
    return {name: scores.evaluate(evaluator, model_folder(path)) for name, path in folders.items()}


def _save(
    cfg: TrainConfig, spec: FuseConfig, fused: "Evaluation", columns: "dict[str, Evaluation]"
) -> list[Sheet]:
    """Write evaluation/; return what to print, the checkpoints beside their fusion first."""
    from codiemb.evaluation import comparison_sheet

    folder = Path(cfg.run_dir) / "evaluation"
    _, *published = show_and_save(cfg.task, folder, fused)
    count = len(spec.checkpoints)
    title = f"fusion of {count} checkpoint{'s' * (count > 1)} (mteb {fused.mteb_version})"
    paths = {"Base": spec.base} | {str(number): path for number, path in enumerate(spec.checkpoints, 1)}
    notes = [f"{name}: {paths[name]}" for name in columns]
    if spec.scale < 1:
        notes.append(f"Fused: {spec.scale:g} of the way from the base")
    sheet = comparison_sheet(title, columns | {"Fused": fused}, notes)
    write_text(folder / "comparison.md", sheet.markdown())
    for name, evaluation in columns.items():
        file = "base.json" if name == "Base" else f"checkpoint_{name}.json"
        write_text(folder / file, evaluation.to_json())
    return [sheet, *published]


def log_weights(folder: Path) -> None:
    """Say what a fusion took of each checkpoint."""
    for row in json.loads((folder / FUSION_FILE).read_text("utf-8"))["checkpoints"]:
        log.info(
            "weight %.3f (per tensor %.3f to %.3f), moved by %.3f: %s",
            *(row[key] for key in ("weight", "lowest", "highest", "moved", "path")),
        )
