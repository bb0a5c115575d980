"""The pages that users read, README.md and docs/*.md: their blocks, commands, links and headings."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
CHINESE = "README.zh.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code."""

    page: str
    language: str
    text: str


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(language: str, pages: Iterable[str] = PAGES) -> list[Block]:
    """The blocks of one language, in the order of the pages."""
    found = [Block(page, *match.groups()) for page in pages for match in _BLOCK.finditer(read(page))]
    return [block for block in found if block.language == language]


def commands(language: str, pages: Iterable[str] = PAGES) -> dict[str, str]:
    """The command lines of these blocks, without comments, and the first page of each."""
    first: dict[str, str] = {}
    for block in blocks(language, pages):
        for line in block.text.splitlines():
            if command := line.split("  #")[0].strip():
                first.setdefault(command, block.page)
    return first


def prose(page: str) -> str:
    """A page without its blocks and without code in a line: where links and headings are."""
    return re.sub(
        r"`[^`\n]*`", lambda code: code[0] if "](" not in code[0] else "", _BLOCK.sub("", read(page))
    )


def links(page: str) -> list[str]:
    """The targets of the links and pictures that lead into this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#{1,6} (.+)$", _BLOCK.sub("", page.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def modules() -> dict[str, str]:
    """The Python blocks that are a file: their first line is a comment with its name."""
    found = {}
    for block in blocks("python"):
        if name := re.match(r"# (\w+\.py)\n", block.text):
            found[name[1]] = block.text
    return found
