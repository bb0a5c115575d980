"""An evaluation by run_eval.py, from the tasks to the tables."""

import logging
import time
from pathlib import Path

from omegaconf import DictConfig

from codiemb.config import run_folder
from codiemb.config.eval_model import build_encoder, label
from codiemb.config.ranks import is_main_process
from codiemb.config.result import write_result
from codiemb.config.schema import EvalConfig
from codiemb.config.shared_evaluation import with_cache
from codiemb.config.task import (
    build_evaluator,
    console,
    earlier_results,
    per_query_folder,
    run_evaluation,
    show_and_save,
    untrained,
)
from codiemb.config.terminal import quiet_libraries
from codiemb.config.what_ran import what_ran
from codiemb.encoder.over_ranks import over_ranks
from codiemb.evaluation import Evaluation
from codiemb.result_folder import RESULTS_FILE
from codiemb.text_encoder import TextEncoder

log = logging.getLogger("codiemb")


def evaluate(config: DictConfig, cfg: EvalConfig) -> None:
    """Load the encoder, run the tasks that have no result yet, print and save the table."""
    started = time.perf_counter()
    quiet_libraries()
    run_dir = Path(cfg.run_dir)
    evaluator = build_evaluator(cfg.task)
    earlier = earlier_results(run_dir / RESULTS_FILE, evaluator, resume=cfg.resume)
    encoder = build_encoder(cfg)
    if is_main_process():
        run_folder.record_run(what_ran(config, cfg.model, encoder), run_dir)

    def scores(shared: TextEncoder) -> Evaluation:
        return run_evaluation(
            evaluator,
            with_cache(shared, cfg.task),
            label(cfg.model),
            report=log.info,
            bm25=cfg.task.baseline,
            seed=cfg.seed,
            file=run_dir / RESULTS_FILE,
            earlier=earlier,
            per_query=per_query_folder(cfg.task, run_dir / RESULTS_FILE),
        )

    result = over_ranks(encoder, scores)
    if result is None:  # a rank that has encoded for rank 0
        return
    tables = show_and_save(cfg.task, run_dir, result, untrained(cfg.model.path))
    write_result(run_dir, result.scores, time.perf_counter() - started)
    for table in tables:
        console().print(table.rich())
    log.info("saved to %s", run_dir)
