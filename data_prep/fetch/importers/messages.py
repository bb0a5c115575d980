"""Records of ms-swift's embedding training: `messages`, `positive_messages`, `negative_messages`, `label`.

Each of the latter two is a list of conversations. A system message is the instruction of its text
(docs/source_en/BestPractices/Embedding.md of ms-swift, read in November 2026).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from codiemb.raw_files.fields import Fields, kind
from codiemb.raw_files.problems import Problem
from data_prep.fetch.importers.pairs import scaled
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judged, document_of, group, query_of


def _record(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """With a `label`, an sts pair, or for ir a positive (1) or a negative (0)."""
    instruction, text = _spoken(fields.value("messages"), "messages")
    query = query_of(text, instruction or recipe.instruction)
    positives = [
        document_of(_spoken(each, "positive_messages")[1]) for each in _lists(fields, "positive_messages")
    ]
    negatives = [
        document_of(_spoken(each, "negative_messages")[1]) for each in _lists(fields, "negative_messages")
    ]
    if not positives:
        raise Problem("positive_messages is missing or empty; a query needs at least one positive")
    grade = 1.0
    if recipe.task == "sts" or fields.has("label"):
        grade = scaled(fields.number("label"), recipe.score_range)
    judged = [
        *(Judged(document, grade) for document in positives),
        *(Judged(document, 0.0) for document in negatives),
    ]
    yield from group(query, judged, fields.origin, recipe.scorer)


def _lists(fields: Fields, name: str) -> Sequence[Any]:
    values = fields.value(name) if fields.has(name) else []
    if not isinstance(values, list):
        raise Problem(f"{name} must be a list of conversations, not {kind(values)}")
    return values


def _spoken(messages: Any, name: str) -> tuple[str, str]:  # noqa: ANN401  any JSON
    """What the system and the user say in a conversation."""
    said = {"system": "", "user": ""}
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Problem(f"{name}: a conversation is a list of objects with role and content")
    for message in messages:
        each = Fields(message, {}, "")
        role = each.text("role")
        if said.get(role) != "":
            raise Problem(f"{name}: one user message and at most one system message, not {role!r} (again)")
        said[role] = each.text("content")
    return said["system"], said["user"]


_COLUMNS = ("messages", "positive_messages", "negative_messages", "label")
FILES: Converts = {"records": (_record, {name: name for name in _COLUMNS})}
