"""The shape of a text: whether it is empty, nearly without letters, or one thing again and again."""

import sys
import unicodedata
from functools import cache

import numpy as np
from jaxtyping import Bool

_LONGEST_RUN = 10  # of one character, that any text may have: a line under a heading


def shape_problem(text: str, *, min_letters: int, min_letter_share: float, max_repeated: float) -> str | None:
    """The first rule that a cleaned text breaks; None where it keeps all.

    Args:
        text: to look at.
        min_letters: `few_letters`: it has fewer letters, ideographs and digits.
        min_letter_share: `symbols`: of all that is not blank, a lower share is one of these.
        max_repeated: `repeated_character`: one run of a character has a larger share of the text (and more
            than 10 of them); `repeated_lines`: lines that stand in the text before have. 1: neither is a
            problem.
    """
    if not text:
        return "empty"
    codes_c = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    letters = int(np.count_nonzero(_is_letter()[codes_c]))
    if letters < max(min_letters, 0):
        return "few_letters"
    if letters < min_letter_share * np.count_nonzero(~_is_blank()[codes_c]):
        return "symbols"
    if _has_run(text, max(_LONGEST_RUN, int(max_repeated * len(text)))):
        return "repeated_character"
    if "\n" in text and _repeated_lines(text) > max_repeated * len(text):
        return "repeated_lines"
    return None


def _has_run(text: str, length: int) -> bool:
    """Whether one character stands more than `length` times in a row."""
    for middle in range(length, len(text), length):  # a longer run lies over one of these places
        character = text[middle]
        before = middle - len(text[:middle].rstrip(character))
        after = len(text) - middle - len(text[middle:].lstrip(character))
        if before + after > length:
            return True
    return False


def _repeated_lines(text: str) -> int:
    """Characters in lines that stand in the text before."""
    seen: set[str] = set()
    repeated = 0
    for line in text.split("\n"):
        if line in seen:
            repeated += len(line)
        seen.add(line)
    return repeated


@cache
def _is_letter() -> Bool[np.ndarray, " u"]:
    """Of each code point: a letter, an ideograph, a digit, or a mark of one (vowels of Indian scripts)."""
    return np.array([unicodedata.category(chr(code))[0] in "LNM" for code in range(sys.maxunicode + 1)])


@cache
def _is_blank() -> Bool[np.ndarray, " u"]:
    return np.array([chr(code).isspace() for code in range(sys.maxunicode + 1)])
