"""Slot values: what a slot can hold, and how it is said in each language."""

import datetime
import re
from dataclasses import dataclass, field

LANGUAGES = ("zh", "en")
SPLITS = ("train", "dev", "test")
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_HAN = "零一二三四五六七八九"


@dataclass(frozen=True)
class Value:
    """One value of a slot type, equal to another if type and id are; `number` orders numbers and dates."""

    type: str
    id: str
    forms: dict[str, tuple[str, ...]] = field(compare=False, repr=False)
    kind: str = field(default="name", compare=False)  # "name", "number" or "date"
    number: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class SlotType:
    """A named list of values. Open types are split by position; closed types are the same in every split."""

    name: str
    values: tuple[Value, ...]
    closed: bool = False

    def values_of(self, split: str) -> tuple[Value, ...]:
        """Return the values a split may use: of every five, three are train, one dev, one test."""
        if self.closed:
            return self.values
        own = {"train": (0, 1, 2), "dev": (3,), "test": (4,)}[split]
        return tuple(value for i, value in enumerate(self.values) if i % 5 in own)


def english_words(n: int) -> str:
    """Spell 0..99 in English; larger numbers stay digits."""
    if n >= 100:
        return f"{n:,}"
    if n < 20:
        return _ONES[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")


def english_ordinal(n: int) -> str:
    """Write 1st, 2nd, 3rd, 4th, 11th, 21st."""
    teens = n % 100 in (11, 12, 13)
    return f"{n}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def chinese_numeral(n: int) -> str:
    """Spell 1..99 in Chinese as before a measure word (two is 两); larger numbers stay digits."""
    if n >= 100:
        return str(n)
    if n == 2:
        return "两"
    tens, ones = divmod(n, 10)
    head = "" if tens == 0 else ("十" if tens == 1 else _HAN[tens] + "十")
    return head + (_HAN[ones] if ones or not tens else "")


def number_value(type_name: str, n: float, patterns: dict[str, list[str]]) -> Value:
    """Make a number.

    Patterns may use {n} (digits), {y} (no comma), {word} and {han} (spelled out), {ord}, {wan} (n / 10000)
    and {bn} (n / 10).
    """
    whole = int(n) == n
    plain = str(int(n)) if whole else f"{n:g}"
    fields = {"y": plain, "wan": f"{n / 10000:g}", "bn": f"{n / 10:g}"}
    fields["ord"] = english_ordinal(int(n))
    fields["word"] = english_words(int(n)) if whole else plain
    fields["han"] = chinese_numeral(int(n)) if whole else plain
    digits = {"zh": plain, "en": f"{int(n):,}" if whole else plain}
    forms = {
        lang: tuple(pattern.format(n=digits[lang], **fields) for pattern in patterns[lang])
        for lang in LANGUAGES
    }
    return Value(type_name, plain, forms, "number", n)


def date_value(type_name: str, day: int) -> Value:
    """Make the day-th day of a common year (0 = 1 January), without a year."""
    date = datetime.date(2023, 1, 1) + datetime.timedelta(days=day)
    month = date.strftime("%B")
    forms: dict[str, tuple[str, ...]] = {
        "zh": (f"{date.month}月{date.day}日", f"{date.month}月{date.day}号"),
        "en": (f"{month} {date.day}", f"{date.day} {month}"),
    }
    return Value(type_name, f"{date.month:02d}-{date.day:02d}", forms, "date", float(day))


def name_value(type_name: str, line: str) -> Value:
    """Read `中文 / 同义词 = English / synonym`; the id is the slug of the first English form."""
    zh, separator, en = line.partition("=")
    forms = {lang: tuple(form.strip() for form in side.split("/")) for lang, side in (("zh", zh), ("en", en))}
    if not separator or not all(all(forms[lang]) for lang in LANGUAGES):
        raise ValueError(f"value {line!r} is not of the form '中文 / 同义词 = English / synonym'")
    return Value(type_name, re.sub(r"\W+", "_", forms["en"][0].lower()).strip("_"), forms)
