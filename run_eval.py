"""Evaluate an export, a Hugging Face or a sentence-transformers folder: `python run_eval.py task=cmteb`."""

import gc

from codiemb.stop import at_once

if __name__ == "__main__":
    at_once.listen()
    gc.disable()  # it takes a sixth of the time of the imports, until `run_script`

from codiemb.config.command_line import check_command_line
from codiemb.config.home import find_home

if __name__ == "__main__":
    check_command_line(__file__, "eval")  # a typo need not wait for the imports
    find_home()  # that some of them look for

import logging

import hydra
from omegaconf import DictConfig

from codiemb.config import run_folder
from codiemb.config.eval_checks import check_evaluation
from codiemb.config.eval_tables import show_results
from codiemb.config.run_lock import one_run_a_folder
from codiemb.config.schema import register
from codiemb.config.script import run_script
from codiemb.config.task import console
from codiemb.config.typed import typed_eval

log = logging.getLogger("codiemb")
register()


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
@run_folder.user_errors_without_traceback
@one_run_a_folder
def main(config: DictConfig) -> None:
    """Show results that are there already; or check everything, evaluate, print and save the tables."""
    cfg = typed_eval(config)
    if show_results(cfg, lambda sheet: console().print(sheet.rich())):
        log.info("saved to %s", cfg.run_dir)
        return
    check_evaluation(cfg)
    with at_once.importing():  # ten seconds: what is above needs neither torch nor mteb
        from codiemb.config.evaluation_run import evaluate
    evaluate(config, cfg)


if __name__ == "__main__":
    run_script(main)
