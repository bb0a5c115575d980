"""Why one row is unusable."""

from typing import Any


class Problem(ValueError):
    """Why one row is unusable; the caller adds file and row."""


def one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its keys and values: json's `object_pairs_hook`.

    Raises:
        Problem: a key stands twice, of which json would keep the last.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(f"the key {twice!r} stands twice in one object")
    return fields
