"""stage=fuse: fuse checkpoints into an export and evaluate it beside them. No data, no trainer."""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from codiemb.atomic import write_text
from codiemb.config import run_folder
from codiemb.config.fuse_search import search
from codiemb.config.result import write_result
from codiemb.config.schema import FuseConfig, TrainConfig
from codiemb.config.task import build_evaluator, console, run_evaluation, show_and_save
from codiemb.encoder import load_encoder
from codiemb.encoder.cpu_kernels import use_cpu_kernels
from codiemb.encoder.model_files import is_adapter
from codiemb.fusion import FUSION_FILE, fuse, model_folder
from codiemb.report import write_report

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator, Sheet

log = logging.getLogger(__name__)


def run(config: DictConfig, cfg: TrainConfig, spec: FuseConfig, evaluator: "Evaluator | None") -> None:
    """Fuse, evaluate, print the tables; leaves what a training run leaves: export/, evaluation/, result.json.

    Raises:
        UserError: the checkpoints cannot be fused.
    """
    started = time.perf_counter()
    run_dir = Path(cfg.run_dir)
    run_folder.record_run(config, run_dir)
    sheets = []
    if spec.search:
        dev = build_evaluator(replace(cfg.task, split="dev"))
        spec, trials = search(
            spec, run_dir, lambda folder: fmean(_evaluate(cfg, dev, folder).scores.values())
        )
        sheets.append(trials)
    folder = fuse(spec.checkpoints, run_dir / "export", spec, base=spec.base)
    _log_weights(folder)
    scores: dict[str, float] = {}
    if evaluator is not None and cfg.evaluate.after:
        columns = _checkpoints(cfg, evaluator, spec) if cfg.evaluate.before else {}
        fused = _evaluate(cfg, evaluator, folder)
        scores = fused.scores
        sheets += _save(cfg, spec, fused, columns)
    for sheet in sheets:
        console().print(sheet.rich())
    seconds = time.perf_counter() - started
    write_result(run_dir, scores, seconds)
    run_folder.link_latest(folder, run_dir)
    write_report(run_dir)
    log.info("finished in %.0f s: %s", seconds, folder)


def _checkpoints(cfg: TrainConfig, evaluator: "Evaluator", spec: FuseConfig) -> "dict[str, Evaluation]":
    """By number, the checkpoints that are models by themselves."""
    numbered = {str(number): Path(path) for number, path in enumerate(spec.checkpoints, 1)}
    models = {n: model_folder(path) for n, path in numbered.items() if not is_adapter(path)}
    return {n: _evaluate(cfg, evaluator, folder) for n, folder in models.items()}


def _evaluate(cfg: TrainConfig, evaluator: "Evaluator", folder: Path) -> "Evaluation":
    """A folder with its own settings; those of `model` where it states none."""
    spec = replace(cfg.model, name=str(folder), path=str(folder), weights=None, tokenizer=None)
    log.info("evaluating %s", folder)
    encoder = load_encoder(spec)
    use_cpu_kernels(encoder.backbone)
    return run_evaluation(evaluator, encoder, str(folder), report=log.info, bm25=False, seed=cfg.seed)


def _save(
    cfg: TrainConfig, spec: FuseConfig, fused: "Evaluation", columns: "dict[str, Evaluation]"
) -> "list[Sheet]":
    """Write evaluation/; return what to print, the checkpoints beside their fusion first."""
    from codiemb.evaluation import comparison_sheet

    folder = Path(cfg.run_dir) / "evaluation"
    _, *published = show_and_save(cfg.task, folder, fused)
    title = f"fusion of {len(spec.checkpoints)} checkpoints (mteb {fused.mteb_version})"
    notes = [f"{number}: {spec.checkpoints[int(number) - 1]}" for number in columns]
    sheet = comparison_sheet(title, columns | {"Fused": fused}, notes)
    write_text(folder / "comparison.md", sheet.markdown())
    for number, evaluation in columns.items():
        write_text(folder / f"checkpoint_{number}.json", evaluation.to_json())
    return [sheet, *published]


def _log_weights(folder: Path) -> None:
    for row in json.loads((folder / FUSION_FILE).read_text("utf-8"))["checkpoints"]:
        log.info(
            "weight %.3f (per tensor %.3f to %.3f), moved by %.3f: %s",
            *(row[key] for key in ("weight", "lowest", "highest", "moved", "path")),
        )
