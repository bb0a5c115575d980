"""Texts of one concept, and the side that each concept is on."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from data_prep.docs.clean import normalise
from data_prep.docs.parse import stable_hash

Side = Literal["train", "dev", "test"]
SIDES: tuple[Side, ...] = ("train", "dev", "test")
DEV_PERCENT, TEST_PERCENT = 10, 20
_WORD = re.compile(r"[a-z]+|[\u4e00-\u9fff]")  # a Chinese character counts as a word


class Group(NamedTuple):
    """A query, and the texts that answer it.

    Attributes:
        concept: what it is about; all of a concept is on one side.
        query: its text.
        positives: texts that say the same, or what it asks for.
    """

    concept: str
    query: str
    positives: tuple[str, ...]

    def texts(self) -> tuple[str, ...]:
        """All of its texts, as they are compared."""
        return tuple(map(normalise, (self.query, *self.positives)))


def side_of(concept: str) -> Side:
    """From the concept alone, whatever else there is."""
    percent = stable_hash("real", concept) % 100
    return "test" if percent < TEST_PERCENT else "dev" if percent < TEST_PERCENT + DEV_PERCENT else "train"


def by_side(groups: Iterable[Group], most: dict[Side, int]) -> dict[Side, list[Group]]:
    """At most so many groups of each side, no two of which share a text, within a side or between sides.

    test chooses first, then dev: training gives way. The order is that of a hash.
    """
    ordered = sorted(groups, key=lambda group: stable_hash("order", *group))
    found: dict[Side, list[Group]] = {side: [] for side in SIDES}
    seen: set[str] = set()
    for side in reversed(SIDES):
        for group in (group for group in ordered if side_of(group.concept) == side):
            texts = group.texts()
            if len(found[side]) < most[side] and seen.isdisjoint(texts) and len(set(texts)) == len(texts):
                found[side].append(group)
                seen.update(texts)
    return found


def hard_negatives(groups: Sequence[Group]) -> list[str]:
    """For each group a positive of another one, which shares the rarest word it can with this one's.

    Texts share words and mean something else, as far as the source knows: nobody has judged them.
    """
    words = [_words(group.positives[0]) | _words(group.query) for group in groups]
    counts = Counter(word for each in words for word in each)
    having: defaultdict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for word in _words(group.positives[0]):
            having[word].append(number)
    found = []
    for number, own in enumerate(words):
        shared = sorted((word for word in own if having[word]), key=lambda word: (counts[word], word))
        others = (other for word in shared for other in having[word] if other != number)
        other = next(others, (number + 1) % len(groups))
        found.append(groups[other].positives[0])
    return found


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))
