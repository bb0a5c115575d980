"""What a training run leaves: scores after training, the export with its card, tables, result and report."""

import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from codiemb.atomic import write_text
from codiemb.callbacks import RefreshNegatives
from codiemb.config import fuse_start, run_folder
from codiemb.config.assemble import Assembled
from codiemb.config.logged_results import attach_results, log_scores
from codiemb.config.model_card import model_card, with_results
from codiemb.config.preflight import Parts
from codiemb.config.result import write_result
from codiemb.config.schema import TrainConfig
from codiemb.config.task import (
    UNTRAINED_FILE,
    Evaluations,
    console,
    per_query_folder,
    prompts_by_task,
    results_to_go_on_from,
    run_evaluation,
    show_and_save,
)
from codiemb.encoder.over_ranks import over_ranks
from codiemb.export import TOLERANCE, Card, export_cosine, export_sentence_transformer, write_card
from codiemb.export.push import push
from codiemb.report import write_report
from codiemb.result_folder import RESULTS_FILE
from codiemb.text_encoder import TextEncoder

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger("codiemb")


def finish(
    cfg: TrainConfig,
    parts: Parts,
    run: Assembled,
    evaluations: Evaluations,
    before: "Evaluation | None",
    started: float,
) -> None:
    """Export, evaluate, fuse with the start, and write it all down.

    Args:
        cfg: of run_train.py.
        parts: what `preflight` has built.
        run: with the whole encoder, on its device.
        evaluations: of the run. Where it evaluates after training, every rank must call this; else rank 0.
        before: scores before training.
        started: of `time.perf_counter`.
    """
    is_main = run.trainer.is_global_zero
    card = Card()
    if is_main and cfg.export.enabled:
        card = model_card(cfg, parts, run)  # may ask the hub
        _export(cfg, run, evaluations, before, card)
    after, scorer = None, evaluations.task if cfg.evaluate.after else None
    if scorer is not None:
        after = over_ranks(run.encoder, partial(_evaluate, cfg, scorer))
    if not is_main:
        return
    fused = None
    if cfg.fuse_with_start is not None:
        fused = fuse_start.fuse_with_start(cfg, run, evaluations)
        card = replace(card, origin=f"{card.origin} {fused.about}")
        _keep_scores(Path(cfg.run_dir) / fuse_start.FUSED, before)
    _write_down(cfg, run, before, after, fused, card, started)


def _evaluate(cfg: TrainConfig, evaluator: "Evaluator", encoder: TextEncoder) -> "Evaluation":
    """The scores after training; a run that was stopped in the middle of them goes on there."""
    file = Path(cfg.run_dir) / "evaluation" / RESULTS_FILE
    log.info("evaluating after training")
    return run_evaluation(
        evaluator,
        encoder,
        cfg.model.name,
        report=log.info,
        bm25=cfg.task.baseline and cfg.fuse_with_start is None,  # once, with the last of the tables
        seed=cfg.seed,
        file=file,
        per_query=per_query_folder(cfg.task, file),
        earlier=results_to_go_on_from(file, evaluator, log.info),
    )


def _export(
    cfg: TrainConfig, run: Assembled, evaluations: Evaluations, before: "Evaluation | None", card: Card
) -> None:
    """Write `export/`, check it through sentence-transformers, and point the stage's folder at it.

    What will be fused with its start is written to `trained/`, as it was trained: the average is rounded
    to `export.dtype`, once.
    """
    run_dir, fuses = Path(cfg.run_dir), cfg.fuse_with_start is not None
    query, dtype = fuse_start.query_instruction(cfg, run), None if fuses else cfg.export.dtype
    folder = export_sentence_transformer(
        run.encoder,
        run_dir / (fuse_start.TRAINED if fuses else "export"),
        query_instruction=query,
        instructions=run.data.instructions(),
        by_task=prompts_by_task(evaluations),
        dtype=dtype,
        card=card,
    )
    _keep_scores(folder, before)
    if cfg.export.verify:
        cosine = export_cosine(
            run.encoder, folder, query_instruction=query, trust_remote_code=run.model.trust_remote_code
        )
        say_how_near(folder, cosine, TOLERANCE[dtype or run.model.dtype])
    if not fuses:
        run_folder.link_latest(folder, run_dir)


def say_how_near(folder: Path, cosine: float, tolerance: float) -> None:
    """What `export.verify` found, as a warning where the export is not the model that was trained."""
    distance = max(1 - cosine, 0.0)  # a NaN first, or it would be 0
    if distance < tolerance:
        log.info("export: %s (cosine with the trainer's embeddings: 1 - %.0e)", folder, distance)
        return
    log.warning(
        "export: %s does not embed as the trained model does (cosine with its embeddings: 1 - %.0e, and the "
        "tolerance is %.0e): export.dtype=float32 exports the weights as they are",
        *(folder, distance, tolerance),
    )


def _keep_scores(folder: Path, before: "Evaluation | None") -> None:
    """An export carries what its model scored before training."""
    if before is not None:
        write_text(folder / UNTRAINED_FILE, before.to_json())


def _write_down(
    cfg: TrainConfig,
    run: Assembled,
    before: "Evaluation | None",
    after: "Evaluation | None",
    fused: fuse_start.Fused | None,
    card: Card,
    started: float,
) -> None:
    """Print the tables; leave card, result.json, whose `scores` are those of `export/`, report and logs."""
    run_dir = Path(cfg.run_dir)
    final, trained = (after, None) if fused is None else (fused.evaluation, after)
    tables = [] if fused is None else fused.sheets
    if final is not None:
        tables += show_and_save(cfg.task, run_dir / "evaluation", final, before, trained)
        card = with_results(card, final, before)
    if cfg.export.enabled and (final is not None or fused is not None):  # else it lies there as it is
        write_card(run_dir / "export", card)
    for table in tables:
        console().print(table.rich())
    log_scores(run.trainer, cfg.task, before, final)
    more: dict[str, object] = _spent_on_negatives(run.trainer)
    if fused is not None:
        more |= {"scale": fused.scale, "trained": {} if after is None else after.scores}
    seconds = time.perf_counter() - started
    write_result(run_dir, {} if final is None else final.scores, seconds, more)
    log.info("finished in %.0f s, report: %s", seconds, write_report(run_dir))
    if cfg.export.enabled:
        log.info("model: SentenceTransformer(%r)", str(run_dir / "export"))
    attach_results(run.trainer, cfg, before, final)
    if cfg.export.push_to_hub is not None:
        log.info("uploaded to %s", push(run_dir / "export", cfg.export.push_to_hub))


def _spent_on_negatives(trainer: pl.Trainer) -> dict[str, object]:
    """What negatives that were mined while training have cost."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for each in callbacks:
        if isinstance(each, RefreshNegatives):
            seconds, share = round(each.seconds, 1), round(each.share, 4)
            return {"refresh": {"searches": each.count, "seconds": seconds, "share": share}}
    return {}
