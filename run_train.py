"""Train an embedding model: `python run_train.py stage=finetune model=youtu_tiny data=builtin`."""

import gc

from codiemb.start_watch import parent_watch
from codiemb.stop import at_once

if __name__ == "__main__":
    at_once.listen()
    gc.disable()  # it takes a sixth of the time of the imports, until `run_script`
    parent_watch.start()  # in a rank that another has started

from codiemb.config.command_line import check_command_line
from codiemb.config.home import find_home

if __name__ == "__main__":
    check_command_line(__file__, "train")  # a typo need not wait for the imports
    find_home()  # that some of them look for

import logging
import time
from pathlib import Path

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig

from codiemb.config import fuse_stage, fuse_start, resume, run_end, run_folder
from codiemb.config.assemble import assemble
from codiemb.config.export_checks import check_destination
from codiemb.config.loggers import closed_loggers, open_loggers
from codiemb.config.preflight import Parts, preflight
from codiemb.config.ranks import is_main_process
from codiemb.config.result import recorded_metric
from codiemb.config.run_lock import one_run_a_folder
from codiemb.config.schema import TrainConfig, register
from codiemb.config.script import run_script
from codiemb.config.shared_evaluation import before_training
from codiemb.config.task import Evaluations, build_evaluations
from codiemb.config.terminal import quiet_libraries
from codiemb.config.typed import typed_train
from codiemb.config.what_ran import what_trains
from codiemb.encoder import check_path
from codiemb.training.checkpoint_files import Saved
from codiemb.training.sharding import whole_encoder

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
    evaluations = evaluations._replace(choice=fuse_start.dev_evaluator(cfg, evaluations.task))
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
    """Train on every rank, with the evaluations before and after, and leave what a run leaves."""
    started = time.perf_counter()
    run_dir, main_process = Path(cfg.run_dir), is_main_process()
    check_path(cfg.model)
    if main_process:
        run_folder.record_run(config, run_dir)
    run = assemble(cfg, parts, evaluations)
    trainer, encoder = run.trainer, run.encoder
    log.info("%s", encoder.describe())
    if main_process:
        run_folder.record_what_trains(what_trains(config, cfg.model, encoder, trainer), run_dir)
        open_loggers(trainer, config)
        if cfg.fuse_with_start is not None:
            fuse_start.keep_start(cfg, run)
    before = before_training(cfg, evaluations.task, trainer, encoder)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=start and start.path, weights_only=True)
    all_evaluate = evaluations.task is not None and cfg.evaluate.after
    encoder = whole_encoder(encoder, run.model, on_all_ranks=all_evaluate)
    if all_evaluate or trainer.is_global_zero:
        encoder.to(trainer.strategy.root_device)
        run_end.finish(cfg, parts, run._replace(encoder=encoder), evaluations, before(), started)


if __name__ == "__main__":
    run_script(main)
