"""From the `task` group to an evaluation: which tasks, with which instructions, and how they are shown."""

from pathlib import Path
from typing import Protocol

from mteb.abstasks import AbsTask
from mteb.get_tasks import get_tasks

from codiemb.config.schema import EvaluationTaskConfig
from codiemb.errors import UserError
from codiemb.evaluation import (
    Evaluation,
    Sheet,
    TextEncoder,
    builtin_tasks,
    cmteb_table,
    cmteb_tasks,
    evaluate,
    results_sheet,
)

TASK_SETS = ("builtin", "cmteb", "mteb")


class Report(Protocol):
    """Gets one line of text per event."""

    def __call__(self, line: str, /) -> object:
        """Show the line."""
        ...


def check_task(task: EvaluationTaskConfig) -> None:
    """Refuse an evaluation that could only fail later.

    Raises:
        UserError: unknown task set, or builtin data that is not there.
    """
    if task.name not in TASK_SETS:
        raise UserError(f"task.name={task.name!r} is none of {', '.join(TASK_SETS)}")
    if task.name == "builtin" and not (Path(task.data) / "eval" / task.split).is_dir():
        raise UserError(f"{task.data}/eval/{task.split}: no such folder; run `make data`, or set task.data")
    if task.name == "mteb" and not task.tasks:
        raise UserError("task=mteb needs task.tasks=[NAME,...]")


def evaluation_tasks(task: EvaluationTaskConfig) -> list[AbsTask]:
    """The mteb tasks of the set, or those of `task.tasks` in it.

    Raises:
        UserError: a name in `task.tasks` that the set does not have.
    """
    if task.name == "mteb":
        try:
            return list(get_tasks(tasks=task.tasks))
        except KeyError as error:
            raise UserError(f"task.tasks: {error.args[0]}") from error
    tasks = builtin_tasks(Path(task.data), task.split) if task.name == "builtin" else cmteb_tasks()
    if not task.tasks:
        return tasks
    by_name = {entry.metadata.name: entry for entry in tasks}
    unknown = [name for name in task.tasks if name not in by_name]
    if unknown:
        raise UserError(
            f"task.tasks: no {', '.join(unknown)} in task={task.name}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in task.tasks]


def run_evaluation(
    task: EvaluationTaskConfig, encoder: TextEncoder, model: str, *, report: Report, baseline: bool = True
) -> Evaluation:
    """Evaluate an encoder on the configured tasks."""
    return evaluate(
        encoder,
        evaluation_tasks(task),
        task.instructions,
        model=f"codiemb/{model}",
        bm25=task.baseline and baseline,
        progress=True,
        report=report,
    )


def sheets(task: EvaluationTaskConfig, result: Evaluation, before: Evaluation | None = None) -> list[Sheet]:
    """What to print: the table of tasks and, for CMTEB, the means beside the published rows."""
    shown = [results_sheet(result, before)]
    if task.name == "cmteb" and not task.tasks:
        shown.append(cmteb_table(result.scores).sheet(result.model))
    return shown
