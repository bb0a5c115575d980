"""Instructions under the names by which mteb looks prompts up, for exports that it evaluates without us."""

from collections.abc import Iterable, Mapping
from typing import get_args

from mteb.abstasks import AbsTask, AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskType

from codiemb.evaluation.instructions import Instructions, entry_for
from codiemb.text_encoder import Side

SIDED_TYPES = ("Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking")  # of texts


def mteb_prompts(instructions: Instructions, tasks: Iterable[AbsTask]) -> dict[str, tuple[str, Side]]:
    """{name: (instruction, side)} of every task type that has an entry, and of every task.

    mteb (get_prompt_name) takes the first that there is of TASK-side, TASK, TYPE-side, TYPE and side; a task
    without sides has only TASK and TYPE. So each task has its own names, with an empty instruction too:
    without them its queries would get the export's prompt `query`.
    """
    named: dict[str, tuple[str, Side]] = {}
    for kind in sorted(instructions.keys() & get_args(TaskType)):
        named |= _by_side(kind, instructions[kind], sided=kind in SIDED_TYPES)
    for task in tasks:
        entry = entry_for(instructions, task.metadata)
        named |= _by_side(task.metadata.name, entry, sided=isinstance(task, AbsTaskRetrieval))
    return named


def _by_side(name: str, entry: Mapping[str, str], *, sided: bool) -> dict[str, tuple[str, Side]]:
    query, document = entry.get("query", ""), entry.get("document", "")
    if not sided:
        return {name: (query, "text")}
    return {f"{name}-query": (query, "query"), f"{name}-document": (document, "document")}
