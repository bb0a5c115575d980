"""Sentences of web pages that say nothing of their subject: cookie banners, error pages, copyright lines."""

import re
from functools import cache
from pathlib import Path

from codiemb.errors import UserError
from codiemb.raw_files.mapping import read_yaml

BUILTIN = Path(__file__).with_name("boilerplate.yaml")
_SENTENCE = re.compile(r"[^\n。！？!?]*?(?:\.(?=\s|$)|[\n。！？!?]|$)")
_SHARE = 0.5  # of a document's characters


def is_boilerplate(text: str, pattern: re.Pattern[str]) -> bool:
    """Whether sentences that begin as the pattern says hold at least half of the text."""
    parts = sorted(sentences(text), key=len, reverse=True)
    others = (1 - _SHARE) * sum(map(len, parts))  # characters that may lie in other sentences
    for sentence in parts:
        if not pattern.match(sentence):
            others -= len(sentence)
        if others < 0:  # after a third of the sentences, in most texts
            return False
    return bool(parts)


def sentences(text: str) -> list[str]:
    """A text cut at line ends, full stops and their Chinese sisters; blank ones left out."""
    return [stripped for match in _SENTENCE.finditer(text) if (stripped := match[0].strip())]


@cache
def read_patterns(path: Path) -> re.Pattern[str]:
    """All expressions of a file in one, in any case.

    Raises:
        UserError: the file is no YAML of lists of expressions; the first that is none is named.
    """
    parts = []
    for heading, expressions in read_yaml(path).items():
        if not isinstance(expressions, list):
            raise UserError(f"{path}: {heading} must be a list of regular expressions")
        for number, expression in enumerate(expressions):
            _compiled(expression, f"{path}: {heading}[{number}]")
            parts.append(f"(?:{expression})")
    if not parts:
        raise UserError(f"{path}: no expression in it; leave the rule out with --no-boilerplate")
    return re.compile("|".join(parts), re.IGNORECASE)


def _compiled(expression: object, where: str) -> None:
    if not isinstance(expression, str):
        raise UserError(f"{where} must be text, not {expression!r}")
    try:
        re.compile(expression)
    except re.error as error:
        raise UserError(f"{where}: {expression!r} is no regular expression ({error})") from error
