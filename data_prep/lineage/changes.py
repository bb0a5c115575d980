"""What a step did to a row, in words: from the row as the step read it and as it wrote it."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from data_prep.lineage.subjects import Subject, described, shown

_TEXTS = ("text", "title", "instruction")
_FOLLOWS = ("hash",)  # from the text


def changes(
    subject: Subject, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """Of the rows of one subject. A step adds rows behind those that it read, and deletes none."""
    for old, new in zip_longest(before, after):
        if new is None:
            yield f"gone: {described(subject, old)}"
        elif old is None:
            yield f"added: {described(subject, new)}{_verdict(new)}"
        else:
            yield from _changed(subject, old, new)


def _changed(subject: Subject, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for name in new:
        if name in _FOLLOWS or name == "reason" or (old.get(name) or None) == (new[name] or None):
            continue
        if name in _TEXTS:
            yield f"{name} changed, was {shown(old.get(name))}"
        elif name == "flags":
            yield from (each for each in new[name] or () if each not in (old[name] or ()))
        elif name == "dropped_by":
            yield f"{described(subject, new)}{_verdict(new)}"
        else:
            yield f"{name} {new[name]}"


def _verdict(row: dict[str, Any]) -> str:
    return "" if row["dropped_by"] is None else f"; dropped by {row['dropped_by']}: {row['reason']}"
