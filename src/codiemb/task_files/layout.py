"""Which folders under `task.data` are tasks, and what they are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codiemb.data.source_file import name_problem
from codiemb.errors import UserError
from codiemb.raw_files.rows import is_readable
from codiemb.task_files.described import FILE
from codiemb.task_files.found import entries, files_there, listed, unreadable
from codiemb.task_files.kinds import QRELS
from codiemb.task_files.listing import stem_of
from codiemb.task_files.sides import SIDES, same_side

_ALL_SIDES = {name for names in SIDES for name in names}
_AT_THE_TOP = ("corpus", "queries")


class TaskFolder(NamedTuple):
    """A folder that is a task, and its name."""

    name: str
    path: Path


def task_folders(data: Path, split: str) -> list[TaskFolder]:
    """Every sub-folder by name, or the folder where it has none; of the sides dev and test that of `split`.

    Raises:
        UserError: no such folder, a file, an empty or unreadable folder, or no such side.
    """
    _check_folder(data)
    name, inner = data.resolve().name, _sub_folders(data)
    if inner and {path.name for path in inner} <= _ALL_SIDES and not _is_task(data):
        data = _side(data, inner, split)
        inner = _sub_folders(data)
    if not inner or _is_task(data):
        return [TaskFolder(_checked(name, data), data)]
    return [TaskFolder(_checked(path.name, path), path) for path in inner]


def passed_over(data: Path, split: str) -> str:
    """That files beside the sub-folders are no task; "" where there are none."""
    folders = task_folders(data, split)
    places = {data, *(folder.path.parent for folder in folders)} - {folder.path for folder in folders}
    names = [
        path.name
        for place in sorted(places)
        if place.is_relative_to(data)
        for path in files_there(place)
        if is_readable(path)
    ]
    return (
        f"task.data={data}: {listed(names)} beside the sub-folders are not scored; "
        "a task has a folder of its own"
        if names and folders[0].path != data
        else ""
    )


def _check_folder(data: Path) -> None:
    if data.is_file():
        raise UserError(
            f"task.data={data} is a file; name the folder that holds it (a folder with one file is a task)"
        )
    if not data.is_dir():
        raise UserError(f"task.data={data}: no such folder; name one with a sub-folder for each task")
    try:
        is_empty = not any(path.name[0] != "." for path in data.iterdir())
    except OSError as error:
        raise unreadable(data, error) from error
    if is_empty:
        raise UserError(
            f"task.data={data}: the folder is empty; put a sub-folder for each task there "
            "(docs/evaluation.md, Your own texts)"
        )


def _sub_folders(data: Path) -> list[Path]:
    """Those that may be tasks."""
    return [path for path in entries(data) if path.is_dir() and path.name != QRELS]


def _is_task(data: Path) -> bool:
    """Whether the files of a folder with sub-folders say that it is the task."""
    return any(
        path.name == FILE or (is_readable(path) and stem_of(path) in _AT_THE_TOP)
        for path in files_there(data)
    )


def _side(data: Path, inner: Sequence[Path], split: str) -> Path:
    by_name = {path.name: path for path in inner}
    found = next((by_name[name] for name in (split, *same_side(split)) if name in by_name), None)
    if found is None:
        raise UserError(
            f"{data} has the sides {listed(sorted(by_name))}, no {split}: choose one with task.split=SIDE"
        )
    return found


def _checked(name: str, path: Path) -> str:
    """A name stands in tables, in the names of metrics and files, and on the command line."""
    if problem := name_problem(name):
        raise UserError(f"{path}: a task cannot be called {name!r}: {problem}; rename the folder")
    return name
