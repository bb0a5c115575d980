"""The end of a run in its loggers: scores before and after in all; table, report and export in W&B."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, WandbLogger

from codiemb.config.schema import EvaluationTaskConfig, TrainConfig
from codiemb.config.task_check import LOCAL_SETS
from codiemb.report import REPORT_FILE
from codiemb.report.page import evaluation_table
from codiemb.tables import complete_mean
from codiemb.task_files.sides import same_side

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluation, TaskScore

log = logging.getLogger("codiemb")
_COLUMNS = ("task", "metric", "before", "after", "gain", "bm25")


def log_scores(
    trainer: pl.Trainer,
    task: EvaluationTaskConfig,
    before: "Evaluation | None",
    after: "Evaluation | None",
) -> None:
    """Main scores to every logger, at the last step: `before/<task>/<metric>` and `test/<task>/<metric>`.

    Once, at the end: a resumed run does not log what it was before a second time. What was scored on the dev
    side of local data is `dev/...` instead of `test/...`. With each the mean, of all tasks or not at all.
    """
    scores = _scores(lambda _: "before", before) | _scores(partial(_side, task), after)

    def write(logger: Logger) -> None:
        logger.log_metrics(scores, step=trainer.global_step)
        logger.save()  # what CSVLogger keeps back until the end of training, which was before

    if scores:
        _to_each(trainer, write)


def attach_results(
    trainer: pl.Trainer, cfg: TrainConfig, before: "Evaluation | None", after: "Evaluation | None"
) -> None:
    """W&B gets the table and report.html and, with `log_model`, the export as an artifact.

    Table and report are copied, the export is read where it is: leave it there until it is uploaded.
    """

    def write(logger: Logger) -> None:
        if isinstance(logger, WandbLogger):
            _attach(logger, cfg, before, after)

    _to_each(trainer, write)


def _attach(
    logger: WandbLogger, cfg: TrainConfig, before: "Evaluation | None", after: "Evaluation | None"
) -> None:
    import wandb  # half a second, and only where it is used

    run_dir = Path(cfg.run_dir)
    num_missing = 0 if after is None else len(after.missing)
    rows = evaluation_table(_rows(before), _rows(after), num_missing=num_missing)
    if rows:
        logger.log_table("results", list(_COLUMNS), [[row[name] for name in _COLUMNS] for row in rows])
    if (run_dir / REPORT_FILE).is_file():
        logger.experiment.log({"report": wandb.Html(str(run_dir / REPORT_FILE), inject=False)})
    if cfg.export.enabled and _wants_export(cfg):
        artifact = wandb.Artifact(f"export-{logger.version}", type="model")
        artifact.add_dir(str(run_dir / "export"), policy="immutable")  # not a second copy of gigabytes
        logger.experiment.log_artifact(artifact)


def _wants_export(cfg: TrainConfig) -> bool:
    """WandbLogger's own key, which means Lightning's checkpoints; a run has none of that kind."""
    return any(node.get("log_model") for node in cfg.logger.values() if node)


def _rows(evaluation: "Evaluation | None") -> list[dict[str, Any]]:
    return [] if evaluation is None else [asdict(result) for result in evaluation.results]


def _scores(side: "Callable[[TaskScore], str]", evaluation: "Evaluation | None") -> dict[str, float]:
    if evaluation is None:
        return {}
    scores = {f"{side(r)}/{r.task}/{r.metric_name}": r.score for r in evaluation.results}
    mean = complete_mean([*scores.values(), *(None for _ in evaluation.missing)])
    sides = {side(result) for result in evaluation.results}
    return scores if mean is None or len(sides) > 1 else scores | {f"{min(sides)}/mean": mean}


def _side(task: EvaluationTaskConfig, result: "TaskScore") -> str:
    """As the task has it, not as it was asked for: a folder may have one side only, or state its own.

    mteb's own tasks are scored on what their benchmark calls test, whatever its split is called.
    """
    is_ours = task.name in (*LOCAL_SETS, "folder")
    return "dev" if is_ours and set(result.splits) <= set(same_side("dev")) else "test"


def _to_each(trainer: pl.Trainer, write: Callable[[Logger], None]) -> None:
    """A finished run is not lost for a logger that fails."""
    for logger in trainer.loggers:
        try:
            write(logger)
        except Exception as error:  # a server's client may raise anything
            log.warning(
                "%s did not take the results: %s: %s", type(logger).__name__, type(error).__name__, error
            )
