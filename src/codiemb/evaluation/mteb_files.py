"""mteb's result files: of 1.11 and newer as they are, all others through mteb, in ten seconds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from codiemb.errors import UserError
from codiemb.json_files import NUMBER
from codiemb.result_folder import NOT_STATED, ResultFile

if TYPE_CHECKING:
    from mteb.results import TaskResult

Row = Mapping[str, Any]  # the scores of one subset: `main_score` and others


class TaskFile(NamedTuple):
    """One task's scores in mteb's layout."""

    task: str
    revision: str  # of the dataset
    mteb_version: str | None
    scores: Mapping[str, Sequence[Row]]  # by split


def task_results(file: ResultFile) -> list[TaskFile]:
    """The tasks that a file states.

    Raises:
        UserError: mteb cannot read it, either.
    """
    entries = file.record.get("task_results", [file.record])
    if isinstance(entries, list) and all(map(_is_plain, entries)):
        return [_plain(entry) for entry in entries]
    return [_of_mteb(result) for result in _loaded(file)]


def _is_plain(entry: object) -> bool:
    """Whether it states its main scores where every version since 1.11 has them."""
    if not isinstance(entry, dict) or not isinstance(entry.get("task_name"), str):
        return False
    scores = entry.get("scores")
    return isinstance(scores, dict) and all(
        isinstance(rows, list) and rows and all(_is_row(row) for row in rows) for rows in scores.values()
    )


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and NUMBER.fits(row.get("main_score")) and bool(row.get("languages"))


def _plain(entry: Row) -> TaskFile:
    revision = entry.get("dataset_revision") or NOT_STATED
    return TaskFile(entry["task_name"], str(revision), entry.get("mteb_version"), entry["scores"])


def _of_mteb(result: "TaskResult") -> TaskFile:
    scores: Any = result.scores
    return TaskFile(result.task_name, result.dataset_revision or NOT_STATED, result.mteb_version, scores)


def _loaded(file: ResultFile) -> "list[TaskResult]":
    """By mteb's own loaders, which know the old layouts."""
    from mteb.results import ModelResult, TaskResult

    from codiemb.evaluation.isolation import quiet_mteb

    try:
        with quiet_mteb():
            if "task_results" in file.record:
                return list(ModelResult.from_disk(file.path).task_results)
            return [TaskResult.from_disk(file.path)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # pydantic's are ValueErrors
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{file.path}: mteb cannot read it ({reason}); copy it again, or take it out"
        ) from error
