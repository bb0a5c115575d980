"""Which instruction each side of a task gets: chosen here, once, and recorded with the score."""

import difflib
from collections.abc import Iterable, Mapping
from typing import get_args

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata, TaskType
from mteb.types import PromptType

from codiemb.errors import UserError
from codiemb.evaluation.builtin_tasks import OUTSIDE, TASKS

Instructions = Mapping[str, Mapping[str, str]]  # task name or task type -> {"query": ..., "document": ...}

SIDES = ("query", "document")


def instruction_for(instructions: Instructions, task: TaskMetadata, prompt_type: PromptType | None) -> str:
    """The instruction of one side of a task; "" if there is none.

    A task's own entry goes before the entry of its type. Retrieval and reranking name the side, so their
    documents get `document` (normally nothing). Symmetric tasks (STS, pair classification, classification,
    clustering) name no side, and all their texts get `query`.
    """
    entry = entry_for(instructions, task)
    return entry.get("document" if prompt_type is PromptType.document else "query", "")


def entry_for(instructions: Instructions, task: TaskMetadata) -> Mapping[str, str]:
    """A task's own entry, or else that of its type; empty if there is neither."""
    return instructions.get(task.name, instructions.get(task.type, {}))


def check_instructions(instructions: Instructions, tasks: Iterable[AbsTask]) -> None:
    """Stop on a key that can never match: a typo here would silently evaluate without a prompt.

    Raises:
        UserError: a key that is neither a task nor a task type, or a side that is neither query nor document.
    """
    names = {task.metadata.name for task in tasks} | {task.metadata.name for task in (*TASKS, *OUTSIDE)}
    known = names.union(get_args(TaskType))
    for name in sorted(instructions.keys() - known):
        if not _is_mteb_task(name):  # a config may hold more tasks than this run evaluates
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"task.instructions: {name!r} is neither a task name nor a task type{hint}")
    for name, entry in instructions.items():
        if wrong := sorted(entry.keys() - set(SIDES)):
            raise UserError(f"task.instructions.{name}: no side {wrong[0]!r}; use 'query' and 'document'")


def _is_mteb_task(name: str) -> bool:
    try:
        mteb.get_task(name)
    except KeyError:
        return False
    return True
