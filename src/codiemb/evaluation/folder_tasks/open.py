"""All tasks of a folder, read and checked before a model is loaded."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codiemb.evaluation.folder_tasks.tasks import LocalTask, task_of
from codiemb.evaluation.isolation import preserve_random_state
from codiemb.evaluation.known_tasks import is_of_mteb
from codiemb.task_files.layout import passed_over
from codiemb.task_files.tasks import find_tasks

Instructions = Mapping[str, Mapping[str, str]]  # task name or task type -> {"query": ..., "document": ...}


def folder_tasks(
    data: str,
    split: str,
    names: Sequence[str] = (),
    report: Callable[[str], object] = lambda line: None,
) -> list[LocalTask]:
    """The tasks under `task.data`, in the order of their names, or those of `names`.

    All data is read once and thrown away again: a bad row stops an evaluation before its model is loaded,
    and no more than one task's data is held at a time.

    Args:
        data: a folder with a sub-folder for each task, or that is a task.
        split: the side that is scored, where there are several.
        names: of the tasks that are wanted; the others are not looked at. None: all.
        report: hears which names are those of mteb's tasks, too.

    Raises:
        UserError: no folder, a folder whose kind cannot be told, a bad row, or an unknown name.
    """
    found = find_tasks(data, split, names)
    if not names and (files := passed_over(Path(data), split)):
        report(files)
    with preserve_random_state():  # building an mteb task seeds the global generators
        tasks = [task_of(each) for each in found]
    for task in tasks:
        task.read()
        if task.remark:
            report(f"{task.metadata.name}: {task.remark}")
        if is_of_mteb(task.metadata.name):
            report(f"{task.metadata.name} is a task of mteb as well: here it is {task.found.folder}")
    return tasks


def with_own_instructions(
    tasks: Sequence[LocalTask], instructions: Instructions
) -> dict[str, Mapping[str, str]]:
    """Those of the config, and for tasks without an entry those that their data states.

    Raises:
        UserError: training records with several instructions, and no entry that chooses one.
    """
    own: dict[str, Mapping[str, str]] = {}
    for task in tasks:
        name = task.metadata.name
        if name in instructions or task.metadata.type in instructions:
            continue
        if task.found.instructions:
            own[name] = task.found.instructions
        elif task.record_instructions is not None and (agreed := task.record_instructions.agreed()):
            own[name] = {"query": agreed}
    return {**own, **instructions}
