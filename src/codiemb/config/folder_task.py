"""task=folder: a user's own files as tasks, with the instructions that they state."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from codiemb.config.schema import EvaluateConfig, EvaluationTaskConfig

if TYPE_CHECKING:
    from codiemb.evaluation import Evaluator

log = logging.getLogger(__name__)


def folder_evaluator(task: EvaluationTaskConfig) -> "Evaluator":
    """The tasks of `task.data`, all read and checked.

    Raises:
        UserError: a folder, a file or a row of no use; or an unknown name in `task.tasks`.
    """
    from codiemb.evaluation import Evaluator
    from codiemb.evaluation.folder_tasks import folder_tasks, with_own_instructions

    tasks = folder_tasks(task.data, task.split, task.tasks, log.info)
    return Evaluator(tasks, with_own_instructions(tasks, task.instructions))


def folder_dev_task(task: EvaluationTaskConfig, names: list[str]) -> EvaluationTaskConfig:
    """What a run is scored on while it trains: the tasks of the folder, on their dev side if they have one.

    `names` are those of `evaluate.dev_tasks`; its default names builtin tasks.
    """
    own = [] if names == EvaluateConfig().dev_tasks else names
    return replace(task, split="dev", tasks=own, baseline=False)
