"""The language of a text by its script: exact, in microseconds, and blind to what shares a script."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Int, UInt8

# Unicode blocks of letters, first and last code point (Unicode 16, Blocks.txt), by what `lang` then says.
_RANGES = {
    "latin": "0041-005A 0061-007A 00AA-00AA 00BA-00BA 00C0-00D6 00D8-00F6 00F8-024F 1E00-1EFF 2C60-2C7F "
    "A720-A7FF FB00-FB06 FF21-FF3A FF41-FF5A",
    "zh": "2E80-2FDF 3005-3007 3021-3029 3400-4DBF 4E00-9FFF F900-FAFF 20000-323AF",
    "bopomofo": "3100-312F 31A0-31BF",
    "ja": "3041-3096 309D-309F 30A1-30FA 30FC-30FF 31F0-31FF FF66-FF9D",
    "ko": "1100-11FF 3130-318F A960-A97F AC00-D7FF",
    "cyrillic": "0400-052F 1C80-1C8F 1D2B-1D2B 2DE0-2DFF A640-A69F",
    "greek": "0370-03FF 1F00-1FFF",
    "arabic": "0620-064A 066E-06D3 06D5-06D5 06EE-06FF 0750-077F 0870-08FF FB50-FDFF FE70-FEFC",
    "hebrew": "05D0-05F2 FB1D-FB4F",
    "devanagari": "0900-0963 0971-097F A8E0-A8FF",
    "bengali": "0980-09FF",
    "gurmukhi": "0A00-0A7F",
    "gujarati": "0A80-0AFF",
    "tamil": "0B80-0BFF",
    "telugu": "0C00-0C7F",
    "kannada": "0C80-0CFF",
    "malayalam": "0D00-0D7F",
    "sinhala": "0D80-0DFF",
    "thai": "0E00-0E7F",
    "lao": "0E80-0EFF",
    "tibetan": "0F00-0FFF",
    "myanmar": "1000-109F AA60-AA7F",
    "georgian": "10A0-10FF 1C90-1CBF 2D00-2D2F",
    "armenian": "0531-058F FB13-FB17",
    "ethiopic": "1200-139F 2D80-2DDF AB00-AB2F",
    "khmer": "1780-17FF",
    "mongolian": "1800-18AF",
}
SCRIPTS = ("", *_RANGES)  # "": no letter of these

# Languages that share a script; a text in that script may be any of them.
_SHARED = {
    "latin": "en fr de es pt it nl pl cs sk sl hr hu ro sv da no nb nn fi et lv lt tr az vi id ms tl sw eu "
    "ca gl ga cy is sq af mt la eo so st sn tn ts xh yo zu lg mi bs",
    "cyrillic": "ru uk be bg sr mk kk mn",
    "arabic": "ar fa ur ps",
    "devanagari": "hi mr ne sa",
    "hebrew": "he yi",
    "greek": "el",
    "bengali": "bn as",
    "gurmukhi": "pa",
    "gujarati": "gu",
    "tamil": "ta",
    "telugu": "te",
    "kannada": "kn",
    "malayalam": "ml",
    "sinhala": "si",
    "thai": "th",
    "lao": "lo",
    "tibetan": "bo",
    "myanmar": "my",
    "georgian": "ka",
    "armenian": "hy",
    "ethiopic": "am ti",
    "khmer": "km",
}
SCRIPT_OF = {language: script for script, names in _SHARED.items() for language in names.split()}
KNOWN = frozenset({*_RANGES, *SCRIPT_OF})
_IDEOGRAPH = 3  # letters: it says about as much as they do, so "iPhone 13 多少钱" is Chinese
_MIN_KANA = 0.1  # of kana and ideographs: a の in a Chinese name makes no Japanese


def language_of(text: str) -> str | None:
    """`zh`, `ja`, `ko`, or the name of the script that several languages share (`latin`); None: no letters.

    The script of most letters decides; ideographs, kana and Hangul count for three.
    """
    counts_S = script_counts(text)
    if not counts_S.any():
        return None
    han, kana = counts_S[_INDEX["zh"]], counts_S[_INDEX["ja"]]
    if kana >= _MIN_KANA * (han + kana):
        counts_S[_INDEX["ja"]] += han
        counts_S[_INDEX["zh"]] = 0
    return SCRIPTS[int((counts_S * _WEIGHTS_S).argmax())]


def script_counts(text: str) -> Int[np.ndarray, " S"]:
    """How many letters of each script of SCRIPTS a text has; the first count is always 0."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4")
    counts_S = np.bincount(_table()[codes], minlength=len(SCRIPTS))
    counts_S[0] = 0
    return counts_S


def agrees(language: str | None, script: str | None) -> bool:
    """Whether a text said to be in a language may be, by its script."""
    return language is not None and (
        script is None or language == script or SCRIPT_OF.get(language) == script
    )


def is_wanted(language: str | None, wanted: Iterable[str]) -> bool:
    """Whether a `lang` is among these: `latin` may be English, so `en` wants it; None is always wanted."""
    wanted = set(wanted)
    return language is None or language in wanted or any(SCRIPT_OF.get(name) == language for name in wanted)


def unknown_languages(names: Sequence[str]) -> list[str]:
    """Those that no text can have."""
    return [name for name in names if name not in KNOWN]


_INDEX = {name: index for index, name in enumerate(SCRIPTS)}
_WEIGHTS_S = np.array([_IDEOGRAPH if name in ("zh", "ja", "ko", "bopomofo") else 1 for name in SCRIPTS])


@cache
def _table() -> UInt8[np.ndarray, " c"]:
    """The script of each code point: 1.1 MB."""
    table_c = np.zeros(0x110000, dtype=np.uint8)
    for name, ranges in _RANGES.items():
        for pair in ranges.split():
            first, last = (int(code, 16) for code in pair.split("-"))
            table_c[first : last + 1] = _INDEX[name]
    return table_c
