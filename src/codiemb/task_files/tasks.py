"""All tasks of a folder, and a check of their data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codiemb.errors import UserError
from codiemb.task_files.found import RECORDS, Found, Kind, listed
from codiemb.task_files.judged import read_retrieval
from codiemb.task_files.kinds import find_task
from codiemb.task_files.labelled import read_classification, read_labelled
from codiemb.task_files.layout import task_folders
from codiemb.task_files.pairs import read_labelled_pairs, read_scored
from codiemb.task_files.records import RecordInstructions, read_ir, read_sts


def find_tasks(data: str, split: str, names: Sequence[str] = ()) -> list[Found]:
    """The tasks under `task.data`, in the order of their names, or those of `names`.

    A name may come from a task.yaml: where a wanted one is no folder's, all folders are looked at.

    Raises:
        UserError: no folder, a folder whose kind cannot be told, two tasks of one name, or an unknown name.
    """
    if not data:
        raise UserError("task=folder needs task.data=DIR: a folder with a sub-folder for each task")
    folders = task_folders(Path(data), split)
    wanted = [folder for folder in folders if folder.name in names]
    found: dict[str, Found] = {}
    for folder in wanted if len(wanted) == len(names) > 0 else folders:
        task = find_task(folder.path, folder.name, split)
        if (other := found.get(task.name)) is not None:
            raise UserError(
                f"{task.folder} and {other.folder} are both called {task.name!r}; give one another name in "
                "its task.yaml"
            )
        found[task.name] = task
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"task.tasks: no {', '.join(unknown)} in task.data={data}; it has {listed(list(found))}"
        )
    return [found[name] for name in names] if names else list(found.values())


def check_data(found: Found) -> None:
    """Read all data of a task.

    Raises:
        UserError: what is wrong with it, with file and row.
    """
    if RECORDS not in found.files:
        _READ[found.kind](found)
    elif found.kind == "sts":
        read_sts(found, RecordInstructions(found))
    else:
        read_ir(found, RecordInstructions(found))


def _clustering(found: Found) -> object:
    return read_labelled(found, "texts")


_READ: Mapping[Kind, Callable[[Found], object]] = {
    "retrieval": read_retrieval,
    "reranking": read_retrieval,
    "sts": read_scored,
    "pair_classification": read_labelled_pairs,
    "classification": read_classification,
    "clustering": _clustering,
}
