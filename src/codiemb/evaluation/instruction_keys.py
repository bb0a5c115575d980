"""Which keys `task.instructions` may have: a typo there would silently evaluate without a prompt. Light."""

from collections.abc import Iterable, Mapping

from codiemb.errors import UserError
from codiemb.mteb_source import task_names, task_types
from codiemb.near import near

SIDES = ("query", "document")


def check_instruction_keys(instructions: Mapping[str, object], names: Iterable[str]) -> None:
    """Stop on a key that can never match, and on an entry that is no text by side.

    A config may hold more tasks than a run evaluates: any task of mteb is known.

    Args:
        instructions: by task name or task type.
        names: of our own tasks.

    Raises:
        UserError: a key that is neither a task nor a task type, a side that is neither query nor document, or
            what is no text.
    """
    theirs = {*task_types(), *task_names()} if task_types() and task_names() else {*instructions}
    known = {*names, *theirs}  # all, in an mteb that keeps its names elsewhere
    for name, entry in instructions.items():
        if name not in known:
            close = near(name, known, all_of_them=False)
            raise UserError(
                f"task.instructions: {name!r} is neither a task name nor a task type; {close}".rstrip("; ")
            )
        _check_entry(f"task.instructions.{name}", entry)


def _check_entry(key: str, entry: object) -> None:
    if not isinstance(entry, Mapping):
        raise UserError(f"{key}={entry!r} must be by side: {key}={{query: TEXT, document: TEXT}}")
    if wrong := [side for side in entry if side not in SIDES]:
        raise UserError(f"{key}: no side {wrong[0]!r}; use 'query' and 'document'")
    for side, text in entry.items():
        if not isinstance(text, str):
            raise UserError(f"{key}.{side}={text!r} must be a text: put quotes around it")
