"""Load the grammar: one YAML file per domain, plus slot types that all domains share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from data_prep.frames.template import Template, check_slots, parse_parts, split_of
from data_prep.frames.values import LANGUAGES, SPLITS, SlotType, Value, date_value, name_value, number_value

GRAMMAR_DIR = Path(__file__).parent / "grammar"
SHARED_FILE = "_shared.yaml"
KINDS = ("short", "passage")
_FRAME_KEYS = {"slots", "weights", "polarity"} | {f"{lang}_{kind}" for lang in LANGUAGES for kind in KINDS}
_SLOT_KEYS = {"values", "numbers", "dates", "zh", "en", "closed"}


class GrammarError(ValueError):
    """A grammar file is wrong; the message names the file, the place and what to do."""


@dataclass(frozen=True)
class Frame:
    """One intent of a domain. `name` is `domain.intent`; two frames are equal when their names are."""

    name: str
    domain: str = field(compare=False)
    slots: dict[str, SlotType] = field(compare=False, repr=False)
    weights: tuple[float, ...] = field(compare=False, repr=False)
    polar: bool = field(compare=False)
    templates: tuple[Template, ...] = field(compare=False, repr=False)

    def select(self, split: str, language: str, kind: str) -> list[Template]:
        """Return the templates of one split, language and kind."""
        return [t for t in self.templates if (t.split, t.language, t.kind) == (split, language, kind)]


def load_grammar(folder: Path = GRAMMAR_DIR) -> tuple[Frame, ...]:
    """Load and validate every domain file of a folder, in name order."""
    shared_path = folder / SHARED_FILE
    shared = _slot_types(_read(shared_path).get("slots", {}), shared_path) if shared_path.exists() else {}
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != SHARED_FILE]
    if not paths:
        raise GrammarError(f"{folder}: no domain files; put one <domain>.yaml per domain there")
    return tuple(frame for path in paths for frame in _load_domain(path, shared))


def _load_domain(path: Path, shared: Mapping[str, SlotType]) -> list[Frame]:
    data = _read(path)
    types = {**shared, **_slot_types(data.get("slots", {}), path)}
    frames = data.get("frames")
    if not isinstance(frames, dict) or not frames or set(data) - {"slots", "frames"}:
        raise GrammarError(f"{path}: expected 'slots' and a non-empty 'frames', found {sorted(data)}")
    return [_frame(path, name, spec, types) for name, spec in frames.items()]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise GrammarError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise GrammarError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def _slot_types(specs: Mapping[str, Any], path: Path) -> dict[str, SlotType]:
    types = {}
    for name, spec in specs.items():
        try:
            types[name] = _slot_type(name, spec)
        except (ValueError, KeyError, TypeError) as error:
            raise GrammarError(f"{path}: slot type '{name}': {error}") from error
    return types


def _slot_type(name: str, spec: Mapping[str, Any]) -> SlotType:
    if set(spec) - _SLOT_KEYS or len({"values", "numbers", "dates"} & set(spec)) != 1:
        raise ValueError(f"give one of values, numbers, dates and no keys beyond {sorted(_SLOT_KEYS)}")
    if "values" in spec:
        values = [name_value(name, line) for line in spec["values"].splitlines() if line.strip()]
    elif "numbers" in spec:
        low, high, step = spec["numbers"]
        count = round((high - low) / step) + 1
        patterns = {lang: spec[lang] for lang in LANGUAGES}
        values = [number_value(name, round(low + i * step, 6), patterns) for i in range(count)]
    else:
        values = [date_value(name, day) for day in range(365)]
    _check_values(values)
    return SlotType(name, tuple(values), bool(spec.get("closed", False)))


def _check_values(values: list[Value]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for value in values:
        for lang in LANGUAGES:
            for form in value.forms[lang]:
                owner = seen.setdefault((lang, form.lower()), value.id)
                if owner != value.id:
                    raise ValueError(f"the {lang} form {form!r} belongs to both '{owner}' and '{value.id}'")
    if len({value.id for value in values}) != len(values):
        raise ValueError("two values have the same id (the slug of the first English form)")


def _frame(path: Path, name: str, spec: Mapping[str, Any], types: Mapping[str, SlotType]) -> Frame:
    where = f"{path}: frame '{name}'"
    if not isinstance(spec, dict) or set(spec) - _FRAME_KEYS or not spec.get("slots"):
        raise GrammarError(f"{where}: needs 'slots' and may only have the keys {sorted(_FRAME_KEYS)}")
    unknown = sorted(set(spec["slots"].values()) - set(types))
    if unknown:
        raise GrammarError(f"{where}: unknown slot type {unknown}; define it under 'slots' in this file")
    weights = spec.get("weights", {})
    if set(weights) - set(spec["slots"]) or any(weight <= 0 for weight in weights.values()):
        raise GrammarError(f"{where}: weights {weights} must be positive and name the frame's slots")
    slots = {slot: types[type_name] for slot, type_name in spec["slots"].items()}
    polar = bool(spec.get("polarity", False))
    for type_name in slots.values():
        _check_supply(where, type_name, list(slots.values()).count(type_name))
    full_name = f"{path.stem}.{name}"
    templates = [
        template
        for lang in LANGUAGES
        for kind in KINDS
        for template in _templates(where, full_name, spec, (lang, kind), set(slots), polar)
    ]
    return Frame(
        full_name, path.stem, slots, tuple(float(weights.get(s, 1)) for s in slots), polar, tuple(templates)
    )


def _check_supply(where: str, slot_type: SlotType, uses: int) -> None:
    fewest = min(len(slot_type.values_of(split)) // 2 for split in SPLITS)  # classification halves a split
    if fewest < uses:
        raise GrammarError(
            f"{where}: uses slot type '{slot_type.name}' {uses} times, which takes {10 * uses} values "
            f"or more, and it has {len(slot_type.values)}"
        )


def _templates(
    where: str, name: str, spec: Mapping[str, Any], key: tuple[str, str], slots: set[str], polar: bool
) -> list[Template]:
    lang, kind = key
    lines = [line.strip() for line in str(spec.get(f"{lang}_{kind}", "")).splitlines() if line.strip()]
    if len(lines) < 4:
        raise GrammarError(
            f"{where}: {lang}_{kind} has {len(lines)} templates; give 4 or more, so that every split gets one"
        )
    if len(set(lines)) != len(lines):
        raise GrammarError(f"{where}: {lang}_{kind} has the same template twice")
    templates = []
    for i, line in enumerate(lines):
        try:
            parts = parse_parts(line)
            check_slots(parts, slots, polar)
        except ValueError as error:
            raise GrammarError(f"{where}: {lang}_{kind} template {i + 1} ({line!r}): {error}") from error
        templates.append(Template(f"{name}.{lang}.{kind}.{i}", lang, kind, split_of(i), parts))
    return templates
