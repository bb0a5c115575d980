"""Tasks of ours that mteb finds by their names, as it finds its own."""

import copy

from mteb.abstasks import AbsTask
from mteb.get_tasks import _TASKS_REGISTRY


def is_of_mteb(name: str) -> bool:
    """Whether mteb has a task of this name; ours are functions that make them."""
    return isinstance(_TASKS_REGISTRY.get(name), type)


def make_known(task: AbsTask) -> None:
    """Let mteb find this task by its name.

    Its wrapper of a SentenceTransformer drops every prompt whose task it cannot find, and has no public way
    to announce a task.
    """
    blank = copy.copy(task)  # before its data is loaded, which this would keep in memory
    _TASKS_REGISTRY.setdefault(task.metadata.name, lambda: copy.copy(blank))  # type: ignore[arg-type]
