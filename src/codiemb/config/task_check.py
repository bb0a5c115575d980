"""What is wrong with the `task` group, told in a second: before torch and mteb are imported."""

from collections.abc import Sequence
from pathlib import Path

from codiemb.config.folder_task import own_names
from codiemb.config.schema import EvaluationTaskConfig
from codiemb.errors import UserError
from codiemb.evaluation.instruction_keys import check_instruction_keys
from codiemb.mteb_source import task_names
from codiemb.near import near
from codiemb.task_names import LOCAL, SPLITS

TASK_SETS = ("builtin", "nano", "cmteb", "mteb", "folder")
LOCAL_SETS = ("builtin", "nano")  # over the builtin data


def check_task(task: EvaluationTaskConfig) -> None:
    """Everything but the data itself, and which names a set has.

    Raises:
        UserError: unknown task set, split, task or instruction, or data that is not there.
    """
    if task.name not in TASK_SETS:
        raise UserError(f"task.name={task.name!r} is none of {', '.join(TASK_SETS)}")
    if task.name == "folder":
        return check_instruction_keys(task.instructions, [*own_names(task), *LOCAL])
    if task.split not in SPLITS:
        raise UserError(f"task.split={task.split!r} is none of {', '.join(SPLITS)}")
    if task.name in LOCAL_SETS and not (Path(task.data) / "eval" / task.split).is_dir():
        raise UserError(
            f"{task.data}/eval/{task.split}: no such folder; run `make data`, set task.data, or train "
            "without it: evaluate.before=false evaluate.after=false"
        )
    if task.name == "mteb":
        check_mteb_names(task.tasks)
    return check_instruction_keys(task.instructions, LOCAL)


def check_mteb_names(names: Sequence[str]) -> None:
    """Raises UserError where there is none, or one that mteb does not have."""
    if not names:
        raise UserError("task=mteb needs task.tasks=[NAME,...]")
    known = task_names()
    if known and (unknown := [name for name in names if name not in known]):
        meant = near(unknown[0], known, all_of_them=False)
        raise UserError(f"task.tasks: mteb has no {', '.join(unknown)}; {meant}".rstrip("; "))
