"""Templates: one line of text with slots, alternatives and polarity.

    {slot}          the slot's surface form
    <a|b|c>         free alternatives; an option may be empty
    [yes|no]        the wording when the meaning is affirmed, and when it is denied
Slots may stand inside alternatives; brackets do not nest.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_GROUP = re.compile(r"(\[[^\[\]<>]*\]|<[^\[\]<>]*>)")
_SLOT = re.compile(r"\{(\w*)\}")
_SENTENCE_START = re.compile(r"(?:^|[.?!] )\W?[a-z]")


@dataclass(frozen=True)
class Part:
    """A stretch of a template: one option (literal), free options, or exactly two options for polarity."""

    options: tuple[str, ...]
    polar: bool = False


@dataclass(frozen=True)
class Template:
    """One paraphrase of a frame. Its id is unique in the grammar; its split follows from its position."""

    id: str
    language: str
    kind: str  # "short" or "passage"
    split: str
    parts: tuple[Part, ...] = field(compare=False, repr=False)

    def render(self, surfaces: Mapping[str, str], affirmed: bool, rng: random.Random) -> str:
        """Return the text for these surface forms of the slots."""
        chosen = (
            part.options[0 if affirmed else 1] if part.polar else rng.choice(part.options)
            for part in self.parts
        )
        return tidy("".join(chosen).format_map(surfaces), self.language)


def split_of(position: int) -> str:
    """Return the split of a template by its position: of every four, two train, one dev, one test."""
    return ("train", "train", "dev", "test")[position % 4]


def tidy(text: str, language: str) -> str:
    """Remove the spaces that empty options leave, and start English sentences with a capital."""
    text = " ".join(text.split())
    if language == "zh":
        return text
    text = re.sub(r" (?=[,.?!;])", "", text)
    return _SENTENCE_START.sub(lambda match: match.group().upper(), text)


def parse_parts(line: str) -> tuple[Part, ...]:
    """Split a line into parts; a stray bracket or a polarity group without two options is an error."""
    parts = []
    for piece in _GROUP.split(line):
        if piece.startswith("["):
            options = tuple(piece[1:-1].split("|"))
            if len(options) != 2:
                raise ValueError(f"polarity group {piece} needs exactly two options, [affirmed|denied]")
            parts.append(Part(options, polar=True))
        elif piece.startswith("<"):
            parts.append(Part(tuple(piece[1:-1].split("|"))))
        elif piece:
            parts.append(Part((piece,)))
    for part in parts:
        stray = set("[]<>{}|") & set("".join(_SLOT.sub("", option) for option in part.options))
        if stray:
            raise ValueError(f"stray {' '.join(sorted(stray))}; brackets must be closed and cannot nest")
    return tuple(parts)


def check_slots(parts: tuple[Part, ...], slots: set[str], polar: bool) -> None:
    """Raise unless every rendering says every slot, and the polarity if and only if the frame has one."""
    named = {name for part in parts for option in part.options for name in _SLOT.findall(option)}
    if named - slots:
        raise ValueError(f"unknown placeholder {sorted(named - slots)}; the slots are {sorted(slots)}")
    said: set[str] = set()
    for part in parts:
        said |= set.intersection(*(set(_SLOT.findall(option)) for option in part.options))
    if slots - said:
        raise ValueError(f"slot {sorted(slots - said)} is missing, or is missing from some alternative")
    if any(part.polar for part in parts) != polar:
        what = "needs a polarity group: the frame" if polar else "has a polarity group but the frame"
        raise ValueError(f"the template {what} says polarity: {str(polar).lower()}")
