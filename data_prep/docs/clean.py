"""From a raw docstring to a summary and the documentation that follows it, in plain text."""

import re
from collections.abc import Callable

from data_prep.docs.markup import plain_text

MAX_QUERY_WORDS = 60
MAX_SUMMARY_CHARS = 300  # a longer first paragraph is cut after its first sentence; the rest joins the body
MAX_BODY_CHARS = 1500
MAX_CODE_CHARS = 800
MIN_QUERY_WORDS = 4
MIN_BODY_WORDS = 15

_SIGNATURE = re.compile(r"^[\w.\[\], ]*\w\(.*\)\s*(?:->.*)?$", re.S)
_BOILERPLATE = re.compile(
    r"^(?:initiali[sz]es? (?:internal|self|the (?:object|class|instance))"
    r"|returns? (?:a |the )?(?:string )?repr"
    r"|(?:see|same as|alias|deprecated|todo|fixme|copied|inherited|overrid\w+|docstring|auto-?generated"
    r"|undocumented|test (?:that|whether|for|case)|copyright|licen[cs]ed)\b"
    r"|(?:the |this )?(?:method|function|class) (?:is |has been )?deprecated"
    r"|(?:arg\w*|param\w*|returns?|yields?|raises?|example|notes?|inputs?|attributes)\s?:"
    r"|[-+*:<{]|\w+ ?(?:\(.{0,120}?\)|\[[^\]]*\])*\s?:(?:\s|$)|\w+ = )",  # a list, a field, a parameter, code
    re.I,
)

_UNFINISHED = re.compile(r"[(={,]$|\b(?:the|an?|of|to|like|with|and|or|for|in|by|as|is|from|that|are)$", re.I)


def _cut(text: str, limit: int, at: Callable[[str], int]) -> str:
    if len(text) <= limit:
        return text
    position = at(text[: limit + 1])
    return text[: position if position > limit // 2 else limit].rstrip()


def _first_sentence(paragraph: str) -> tuple[str, str]:
    match = re.match(r"(.{20,}?[.!?])\s+(?=[A-Z(])", paragraph)
    return (match[1], paragraph[match.end() :]) if match else (paragraph, "")


def _body(paragraphs: list[str]) -> str:
    lines = (
        re.sub(r"[ \t]+", " ", line).strip() for paragraph in paragraphs for line in paragraph.split("\n")
    )
    text = "\n".join(line for line in lines if any(c.isalnum() for c in line))
    while True:  # a heading whose section was dropped says nothing
        shorter = re.sub(r"(?:^|\n)[A-Z][a-z ]+:(?=\n[A-Z][a-z]+:\n|$)", "", text).strip()
        if shorter == text:
            return _cut(text, MAX_BODY_CHARS, lambda head: max(head.rfind(" "), head.rfind("\n")))
        text = shorter


def is_query(text: str) -> bool:
    """Whether a summary says enough, in English, to be asked for."""
    words = text.split()
    letters = sum(c.isascii() and (c.isalpha() or c.isspace()) for c in text)
    return (
        MIN_QUERY_WORDS <= len(words) <= MAX_QUERY_WORDS
        and letters >= 0.75 * len(text)
        and _BOILERPLATE.match(text) is None
        and _UNFINISHED.search(text) is None
    )


def split_docstring(raw: str) -> tuple[str, str] | None:
    """(summary, rest) of a docstring in plain text, or None where either says too little."""
    text = plain_text(raw)
    paragraphs = [p.strip("\n") for p in re.split(r"\n\s*\n", text) if p.strip()]
    while paragraphs and _SIGNATURE.match(paragraphs[0]):
        paragraphs.pop(0)
    if not paragraphs:
        return None
    query, rest = " ".join(paragraphs[0].split()), ""
    if len(query) > MAX_SUMMARY_CHARS:
        query, rest = _first_sentence(query)
    body = _body([rest, *paragraphs[1:]])
    prose = len(re.findall(r"[A-Za-z]{2,}", body))
    if not is_query(query) or prose < MIN_BODY_WORDS or sum(map(str.isascii, body)) < 0.9 * len(body):
        return None
    return None if normalise(query) in normalise(body) else (query.strip('": '), body)


def clean_code(code: str) -> str:
    """Source lines without trailing blanks or empty lines, cut at a line end."""
    lines = (line.rstrip() for line in code.split("\n"))
    return _cut("\n".join(line for line in lines if line), MAX_CODE_CHARS, lambda head: head.rfind("\n"))


def normalise(text: str) -> str:
    """Lower-case words only: the form in which two texts are compared for equality."""
    return " ".join(re.findall(r"\w+", text.lower()))
