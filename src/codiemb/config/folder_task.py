"""task=folder: a user's own files as tasks, with the instructions that they state."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codiemb.config.schema import EvaluateConfig, EvaluationTaskConfig
from codiemb.mteb_source import task_types

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
    # an entry for a task of the folder that is not asked for is no mistake; one for a type is for all
    unasked = {*own_names(task)} - {each.metadata.name for each in tasks} - task_types()
    chosen = {name: entry for name, entry in task.instructions.items() if name not in unasked}
    return Evaluator(tasks, with_own_instructions(tasks, chosen))


def own_names(task: EvaluationTaskConfig) -> list[str]:
    """The tasks of a folder: by their sub-folders, asked for or not, and by the names of those asked for."""
    from codiemb.task_files.layout import task_folders  # half a second for pyarrow
    from codiemb.task_files.tasks import find_tasks

    asked = [found.name for found in find_tasks(task.data, task.split, task.tasks)]
    return [*asked, *(folder.name for folder in task_folders(Path(task.data), task.split))]


def folder_dev_task(task: EvaluationTaskConfig, names: list[str]) -> EvaluationTaskConfig:
    """What a run is scored on while it trains: the tasks of the folder, on their dev side if they have one.

    `names` are those of `evaluate.dev_tasks`; its default names builtin tasks.
    """
    own = [] if names == EvaluateConfig().dev_tasks else names
    return replace(task, split="dev", tasks=own, baseline=False)
