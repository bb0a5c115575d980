"""Train an embedding model: `python run_train.py stage=finetune model=youtu_tiny data=builtin`."""

from codiemb.start_watch import parent_watch
from codiemb.stop import at_once

if __name__ == "__main__":
    at_once.listen()
    parent_watch.start()  # in a rank that another has started

from codiemb.config.command_line import check_command_line
from codiemb.config.home import find_home

if __name__ == "__main__":
    check_command_line(__file__, "train")  # a typo need not wait for the imports
    find_home()  # that some of them look for

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig

from codiemb.atomic import write_text
from codiemb.config import fuse_stage, resume, run_folder
from codiemb.config.assemble import Assembled, assemble
from codiemb.config.export_checks import check_destination
from codiemb.config.logged_results import attach_results, log_scores
from codiemb.config.loggers import closed_loggers, open_loggers
from codiemb.config.model_card import model_card, with_results
from codiemb.config.preflight import Parts, preflight
from codiemb.config.ranks import is_main_process
from codiemb.config.result import recorded_metric, write_result
from codiemb.config.run_lock import one_run_a_folder
from codiemb.config.schema import TrainConfig, register
from codiemb.config.script import run_script
from codiemb.config.shared_evaluation import before_training
from codiemb.config.task import (
    UNTRAINED_FILE,
    Evaluations,
    build_evaluations,
    console,
    per_query_folder,
    prompts_by_task,
    results_to_go_on_from,
    run_evaluation,
    show_and_save,
)
from codiemb.config.terminal import quiet_libraries
from codiemb.config.typed import typed_train
from codiemb.encoder import check_path
from codiemb.encoder.over_ranks import Embedder, over_ranks
from codiemb.export import TOLERANCE, Card, export_cosine, export_sentence_transformer, write_card
from codiemb.export.push import push
from codiemb.report import write_report
from codiemb.result_folder import RESULTS_FILE
from codiemb.training.checkpoint_files import Saved
from codiemb.training.sharding import whole_encoder

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, Evaluator

log = logging.getLogger("codiemb")
register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@run_folder.user_errors_without_traceback
@one_run_a_folder
def main(config: DictConfig) -> float | None:
    """Check everything, then train or fuse; return what a sweep maximises."""
    quiet_libraries()
    cfg = typed_train(config)
    parts = preflight(cfg)
    run_dir = Path(cfg.run_dir)
    start = resume.starting_point(config, run_dir)
    if resume.has_finished(config, run_dir):
        log.info("%s has finished, there is nothing to resume", run_dir)
        return recorded_metric(run_dir)
    if is_main_process():
        check_destination(cfg)
    evaluations = build_evaluations(cfg.task, cfg.evaluate)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    if cfg.fuse is not None:
        fuse_stage.run(config, cfg, cfg.fuse, evaluations.task)
    else:
        with closed_loggers():
            train(config, cfg, parts, evaluations, start)
    return recorded_metric(run_dir)


def train(
    config: DictConfig, cfg: TrainConfig, parts: Parts, evaluations: Evaluations, start: Saved | None
) -> None:
    """Train on every rank; all evaluate before and after, rank 0 exports."""
    started = time.perf_counter()
    run_dir, main_process = Path(cfg.run_dir), is_main_process()
    check_path(cfg.model)
    if main_process:
        run_folder.record_run(config, run_dir)
    run = assemble(cfg, parts, evaluations)
    trainer, encoder = run.trainer, run.encoder
    log.info("%s", encoder.describe())
    if main_process:
        open_loggers(trainer, config)
    scores_before = before_training(cfg, evaluations.task, trainer, encoder)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=start and start.path, weights_only=True)
    scorer = evaluations.task if cfg.evaluate.after else None
    encoder = whole_encoder(encoder, run.model, on_all_ranks=scorer is not None)
    if scorer is None and not trainer.is_global_zero:
        return

    encoder.to(trainer.strategy.root_device)
    run, before = run._replace(encoder=encoder), scores_before()
    card = model_card(cfg, parts, run) if trainer.is_global_zero else Card()  # which may ask the hub
    if trainer.is_global_zero and cfg.export.enabled:
        export(cfg, run, evaluations, before, card)
    after = None if scorer is None else over_ranks(encoder, partial(evaluate_after, cfg, scorer))
    if not trainer.is_global_zero:
        return
    if after is not None and cfg.export.enabled:
        write_card(run_dir / "export", with_results(card, after, before))
    finish(cfg, trainer, before, after, seconds=time.perf_counter() - started)
    if cfg.export.push_to_hub is not None:
        log.info("uploaded to %s", push(run_dir / "export", cfg.export.push_to_hub))


def evaluate_after(cfg: TrainConfig, evaluator: "Evaluator", encoder: Embedder) -> "Evaluation":
    """The scores after training; a run that was stopped in the middle of them goes on there."""
    file = Path(cfg.run_dir) / "evaluation" / RESULTS_FILE
    return run_evaluation(
        evaluator,
        encoder,
        cfg.model.name,
        report=log.info,
        bm25=cfg.task.baseline,
        seed=cfg.seed,
        file=file,
        per_query=per_query_folder(cfg.task, file),
        earlier=results_to_go_on_from(file, evaluator, log.info),
    )


def export(
    cfg: TrainConfig, run: Assembled, evaluations: Evaluations, before: "Evaluation | None", card: Card
) -> None:
    """Write `export/`, check it through sentence-transformers, and point the stage's folder at it."""
    run_dir, instructions = Path(cfg.run_dir), run.data.instructions()
    query = cfg.export.query_instruction
    query = run.data.query_instruction() if query is None else query
    folder = export_sentence_transformer(
        run.encoder,
        run_dir / "export",
        query_instruction=query,
        instructions=instructions,
        by_task=prompts_by_task(evaluations),
        dtype=cfg.export.dtype,
        card=card,
    )
    if before is not None:
        write_text(folder / UNTRAINED_FILE, before.to_json())
    if cfg.export.verify:
        cosine = export_cosine(
            run.encoder, folder, query_instruction=query, trust_remote_code=run.model.trust_remote_code
        )
        tolerance = TOLERANCE[cfg.export.dtype or run.model.dtype]
        show = log.info if cosine > 1 - tolerance else log.warning
        show("export: %s (cosine with the trainer's embeddings: 1 - %.0e)", folder, max(0.0, 1 - cosine))
    run_folder.link_latest(folder, run_dir)


def finish(
    cfg: TrainConfig,
    trainer: pl.Trainer,
    before: "Evaluation | None",
    after: "Evaluation | None",
    seconds: float,
) -> None:
    """Print the table, leave result.json and the report, and tell the loggers."""
    run_dir = Path(cfg.run_dir)
    if after is not None:
        for table in show_and_save(cfg.task, run_dir / "evaluation", after, before):
            console().print(table.rich())
    log_scores(trainer, cfg.task, before, after)
    write_result(run_dir, {} if after is None else after.scores, seconds)
    log.info("finished in %.0f s: %s", seconds, write_report(run_dir))
    attach_results(trainer, cfg, before, after)


if __name__ == "__main__":
    run_script(main)
