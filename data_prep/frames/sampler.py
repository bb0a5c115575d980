"""Draw meanings, change them a little, and put them into words, with one split's values and templates."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from data_prep.frames.grammar import Frame
from data_prep.frames.meaning import Meaning
from data_prep.frames.template import Template
from data_prep.frames.values import SlotType, Value

MAX_TRIES = 200  # draws before one request counts as impossible
MAX_STALE_DRAWS = 20_000  # meanings drawn without a new text before the split counts as exhausted


class Sampler:
    """A seeded source of meanings and texts of one split, which remembers what it used.

    `half` (0 or 1) narrows it to every other value and template, to keep two samplers of one split apart.
    """

    def __init__(self, frames: Sequence[Frame], split: str, seed: str, half: int | None = None) -> None:
        self.frames = frames
        self.split = split
        self.rng = random.Random(seed)
        self.used_templates: set[str] = set()
        self.used_values: set[Value] = set()  # of open slot types
        self.used_texts: dict[str, str] = {}  # text to template id
        self._stale_draws = 0
        self._step = slice(None) if half is None else slice(half, None, 2)
        self._values: dict[str, tuple[Value, ...]] = {}
        self._templates: dict[tuple[str, str, str], list[Template]] = {}

    def values(self, slot_type: SlotType) -> tuple[Value, ...]:
        """Return the values this sampler may give to a slot."""
        if slot_type.name not in self._values:
            values = slot_type.values_of(self.split)
            self._values[slot_type.name] = values if slot_type.closed else values[self._step]
        return self._values[slot_type.name]

    def templates(self, frame: Frame, language: str, kind: str) -> list[Template]:
        """Return the templates this sampler may use for a frame."""
        key = (frame.name, language, kind)
        if key not in self._templates:
            templates = frame.select(self.split, language, kind)
            self._templates[key] = templates[self._step] or templates
        return self._templates[key]

    def meaning(self, frame: Frame | None = None) -> Meaning:
        """Draw a meaning, of any frame unless one is given; slots of one type get different values."""
        self._stale_draws += 1
        if self._stale_draws > MAX_STALE_DRAWS:
            raise ValueError(
                f"the {self.split} split has no new texts left; ask for fewer or extend the grammar"
            )
        frame = frame or self.rng.choice(self.frames)
        values: list[Value] = []
        for slot_type in frame.slots.values():
            value = self._another(self.values(slot_type), values)
            assert value is not None, "the loader checks that a split has enough values"
            values.append(value)
        return Meaning(frame, tuple(values), not frame.polar or self.rng.random() < 0.5)

    def one_off(self, meaning: Meaning) -> Meaning:
        """Change one thing: the polarity, the roles of two slots, a number by a little, or any value."""
        types = [slot_type.name for slot_type in meaning.frame.slots.values()]
        moves = ["slot", "slot", "near"]
        moves += ["deny"] * 2 * meaning.frame.polar + ["swap"] * (len(set(types)) < len(types))
        move = self.rng.choice(moves)
        if move == "deny":
            return self.denied(meaning)
        if move == "swap":
            return self.swapped(meaning)
        if move == "near":
            return self.near(meaning)
        return self.changed(meaning, self.rng.randrange(len(types)))

    def denied(self, meaning: Meaning) -> Meaning:
        """Return the meaning with the other polarity."""
        return replace(meaning, affirmed=not meaning.affirmed)

    def swapped(self, meaning: Meaning) -> Meaning:
        """Return the meaning with the roles of two slots of one type exchanged."""
        types = [slot_type.name for slot_type in meaning.frame.slots.values()]
        first = next(i for i, name in enumerate(types) if name in types[i + 1 :])
        second = types.index(types[first], first + 1)
        values = list(meaning.values)
        values[first], values[second] = values[second], values[first]
        return replace(meaning, values=tuple(values))

    def near(self, meaning: Meaning) -> Meaning:
        """Move one number or date to a neighbour; if there is none, change any slot."""
        numeric = [i for i, value in enumerate(meaning.values) if value.kind != "name"]
        if not numeric:
            return self.changed(meaning, self.rng.randrange(len(meaning.values)))
        slot = self.rng.choice(numeric)
        pool = self.values(list(meaning.frame.slots.values())[slot])
        at = pool.index(meaning.values[slot])
        return self._with(meaning, slot, pool[max(0, at - 3) : at + 4])

    def changed(self, meaning: Meaning, slot: int) -> Meaning:
        """Return the meaning with another value in one slot."""
        return self._with(meaning, slot, self.values(list(meaning.frame.slots.values())[slot]))

    def _with(self, meaning: Meaning, slot: int, choices: Sequence[Value]) -> Meaning:
        value = self._another(choices, meaning.values)
        if value is None:  # two slots of one type hold all its values
            return self.swapped(meaning)
        values = (*meaning.values[:slot], value, *meaning.values[slot + 1 :])
        return Meaning(meaning.frame, values, meaning.affirmed)

    def _another(self, choices: Sequence[Value], taken: Sequence[Value]) -> Value | None:
        for _ in range(len(taken) + 2):  # almost always the first draw will do
            value = self.rng.choice(choices)
            if value not in taken:
                return value
        rest = [value for value in choices if value not in taken]
        return self.rng.choice(rest) if rest else None

    def text(
        self,
        meaning: Meaning,
        language: str,
        kind: str = "short",
        avoid: Collection[str] = (),
        unlike: Collection[str] = (),
    ) -> str | None:
        """Put a meaning into words not in `avoid`, nor from a template of those in `unlike`, or None."""
        spent = {self.used_texts[text] for text in unlike}
        templates = [t for t in self.templates(meaning.frame, language, kind) if t.id not in spent]
        if not templates:
            return None
        for _ in range(20):
            template = self.rng.choice(templates)
            surfaces = {
                slot: self.rng.choice(value.forms[language])
                for slot, value in zip(meaning.frame.slots, meaning.values, strict=True)
            }
            text = template.render(surfaces, meaning.affirmed, self.rng)
            if text not in avoid:
                self._remember(meaning, template, text)
                return text
        return None

    def must_text(self, meaning: Meaning, language: str, kind: str = "short") -> str:
        """Put a meaning into words, said before or not."""
        text = self.text(meaning, language, kind)
        assert text is not None, "without conditions there are always words"
        return text

    def _remember(self, meaning: Meaning, template: Template, text: str) -> None:
        if text not in self.used_texts:
            self._stale_draws = 0
        self.used_templates.add(template.id)
        self.used_texts[text] = template.id
        types = meaning.frame.slots.values()
        self.used_values.update(v for v, t in zip(meaning.values, types, strict=True) if not t.closed)


def check_disjoint(samplers: Sequence[Sampler]) -> None:
    """Raise if two samplers of different splits used the same template, open value or whole text."""
    for i, a in enumerate(samplers):
        for b in samplers[i + 1 :]:
            if a.split == b.split:
                continue
            shared = (
                (a.used_templates & b.used_templates)
                or (a.used_values & b.used_values)
                or (a.used_texts.keys() & b.used_texts.keys())
            )
            if shared:
                example = sorted(map(str, shared))[0]
                raise ValueError(f"{a.split} and {b.split} share {len(shared)} items, such as {example!r}")
