"""What is wrong with the folder of task=folder, told within a second or two, before torch is imported."""

from collections.abc import Sequence

from codiemb.task_files.tasks import check_data, find_tasks

_READ_HERE = 1 << 26  # bytes of a task that are read now: later all of it is, whatever its size


def check_folder(data: str, split: str, names: Sequence[str]) -> None:
    """Find the tasks of a folder, or those of `names`, and read what is small.

    Raises:
        UserError: as `find_tasks` and `check_data`.
    """
    for found in find_tasks(data, split, names):
        if sum(path.stat().st_size for path in found.all_files) <= _READ_HERE:
            check_data(found)
