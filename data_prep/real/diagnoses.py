"""STS records from the classification of diagnoses: the grade is what two of them share of the tree."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from data_prep.docs.parse import stable_hash

INSTRUCTION = "Judge how closely related the two diagnoses are"
LEVELS = ("chapter", "section", "category", "code")
_TRIES = 200  # for a pair of a grade before another diagnosis is drawn


class Diagnosis(NamedTuple):
    """A code of ICD-10-CM.

    Attributes:
        path: its chapter, section, category (three characters) and code.
        text: what it is called.
        names: what else is listed under it.
    """

    path: tuple[str, ...]
    text: str
    names: tuple[str, ...]


class Pair(NamedTuple):
    """Two texts and the share of the four levels that they have in common."""

    first: str
    second: str
    grade: float


def diagnoses(xml: bytes) -> Iterator[Diagnosis]:
    """All codes that have another name than their own; those above them only give the path."""
    for chapter in ElementTree.fromstring(xml).iter("chapter"):
        for section in chapter.iter("section"):
            for category in section.findall("diag"):
                for code in category.iter("diag"):
                    places = (chapter.findtext("name"), section.get("id"), category.findtext("name"))
                    path = (*map(str, places), str(code.findtext("name")))
                    text = str(code.findtext("desc"))
                    notes = [note.text or "" for note in code.findall("inclusionTerm/note")]
                    names = tuple(dict.fromkeys(note for note in notes if note and note != text))
                    if names:
                        yield Diagnosis(path, text, names)


def graded_pairs(found: Sequence[Diagnosis], per_grade: int, seed: object) -> list[Pair]:
    """As many pairs of each of the grades 0, 0.25, 0.5, 0.75 and 1, each pair of texts once.

    1 is a diagnosis and another name of it; else each side is its text or a name. A grade says where
    doctors' coding puts two diagnoses, and not how people judge their wording. Fewer where there are not
    as many; in the order of a hash, so that any part of them has all grades.
    """
    generator = random.Random(stable_hash("pairs", seed))
    near = _by_prefix(found)
    pairs: dict[tuple[str, str], Pair] = {}
    for shared in range(len(LEVELS) + 1):
        wanted = len(pairs) + per_grade
        for _ in range(per_grade * _TRIES):
            if len(pairs) == wanted:
                break
            one = generator.choice(found)
            other = one if shared == len(LEVELS) else generator.choice(near[one.path[:shared]])
            if num_shared(one, other) == shared:
                texts = (
                    (one.text, generator.choice(one.names)) if one is other else _texts(one, other, generator)
                )
                first, second = texts
                if first.lower() != second.lower() and (second, first) not in pairs:
                    pairs.setdefault((first, second), Pair(first, second, shared / len(LEVELS)))
    return sorted(pairs.values(), key=lambda pair: stable_hash("order", *pair))


def name_pairs(found: Sequence[Diagnosis], num: int, seed: object) -> list[tuple[str, str, int]]:
    """A diagnosis beside another name of its own (1), and beside one of a code of its category (0)."""
    generator = random.Random(stable_hash("names", seed))
    near = _by_prefix(found)
    ordered = sorted(found, key=lambda each: stable_hash("names", seed, *each.path))
    pairs: list[tuple[str, str, int]] = []
    for one in ordered:
        siblings = [each for each in near[one.path[:3]] if each is not one]
        if siblings and len(pairs) < num:
            other = generator.choice(siblings)
            pairs += [(one.text, one.names[0], 1), (one.text, generator.choice(other.names), 0)]
    return [pair for pair in pairs if pair[0].lower() != pair[1].lower()]


def num_shared(one: Diagnosis, other: Diagnosis) -> int:
    """How many of the four levels, from the top, are the same."""
    return next((n for n, (a, b) in enumerate(zip(one.path, other.path, strict=True)) if a != b), len(LEVELS))


def _texts(one: Diagnosis, other: Diagnosis, generator: random.Random) -> tuple[str, str]:
    if one is other:
        return one.text, generator.choice(one.names)
    return generator.choice((one.text, *one.names)), generator.choice((other.text, *other.names))


def _by_prefix(found: Sequence[Diagnosis]) -> dict[tuple[str, ...], list[Diagnosis]]:
    near: defaultdict[tuple[str, ...], list[Diagnosis]] = defaultdict(list)
    for each in found:
        for length in range(len(LEVELS)):
            near[each.path[:length]].append(each)
    return near
