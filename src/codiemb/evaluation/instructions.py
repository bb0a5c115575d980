"""Which instruction each side of a task gets: chosen here, once, and recorded with the score."""

from collections.abc import Iterable, Mapping

from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType

from codiemb.evaluation.instruction_keys import check_instruction_keys
from codiemb.task_names import LOCAL

Instructions = Mapping[str, Mapping[str, str]]  # task name or task type -> {"query": ..., "document": ...}


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
    """Stop on a key that can never match: `check_instruction_keys`, for these tasks and the builtin ones.

    Raises:
        UserError: see there.
    """
    check_instruction_keys(instructions, [*(task.metadata.name for task in tasks), *LOCAL])
