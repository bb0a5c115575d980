"""The sides of a data set, and the names that each goes by."""

from collections.abc import Sequence

# names of one side; the first is ours
SIDES = (("test",), ("dev", "validation", "valid", "val"), ("train",))


def same_side(split: str) -> Sequence[str]:
    """The names of the side that a split is."""
    return next((names for names in SIDES if split in names), (split,))
