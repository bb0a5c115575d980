"""What a source file says in words: raw text of docstrings and comments, and names with their summaries."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.docs.clean import is_query, split_docstring
from data_prep.docs.markup import plain_text
from data_prep.docs.parse import read_source

MIN_WORDS = 6  # of a docstring or a block of comments; less says nothing
MAX_CHARS = 20_000  # of a document; a longer one is a table
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Documented = ast.Module | _Named
_COMMENT = re.compile(r"^\s*#+:? ?(.*)$")
_NO_PROSE = re.compile(
    r"(?:!|type:|noqa|pylint|pragma|fmt:|mypy|isort|ruff|flake8|-\*-|copyright|licen[cs]e|spdx|\W*$)", re.I
)
_LICENSE = re.compile(r"\blicen[cs]ed under\b|\bapache license\b|\bcopyright\b|\bwarrant(?:y|ies)\b", re.I)
_CODE = re.compile(
    r"[=(\[{]\s*$|^\s*(?:def|class|return|import|from|if|for|while|assert|print\()\b.*[:)]$|\w = \w"
)


@dataclass(frozen=True, slots=True)
class Definition:
    """A public class, function or method with a usable summary."""

    package: str
    module: str
    name: str  # Class.method
    is_class: bool
    summary: str
    body: str  # empty where the docstring ends with its summary


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """One module: its documents of raw text, and its definitions."""

    package: str
    module: str
    texts: list[str]
    definitions: list[Definition]


def parse_raw(item: tuple[str, str, str]) -> ParsedFile:
    """Read one file without importing it; one that is not valid Python has nothing."""
    package, module, path = item
    source, tree = read_source(path)
    texts: list[str] = []
    definitions: list[Definition] = []
    quoted: set[int] = set()  # lines of docstrings
    for name, node, is_nested in _documented(tree, ""):
        raw = ast.get_docstring(node, clean=False)
        if raw is None:
            continue
        quoted.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        text = re.sub(r"\n{3,}", "\n\n", plain_text(raw)).strip()
        if len(text.split()) >= MIN_WORDS:
            texts.append(text[:MAX_CHARS])
        definition = None if is_nested else _definition(package, module, name, node, raw)
        if definition is not None:
            definitions.append(definition)
    comments = "\n".join(_comment_blocks(source.split("\n"), quoted))
    if comments:
        texts.append(comments[:MAX_CHARS])
    return ParsedFile(package, module, texts, definitions)


def _documented(
    node: ast.AST, prefix: str, is_nested: bool = False
) -> Iterator[tuple[str, _Documented, bool]]:
    """The module ("") and its classes and functions, with dotted names, and whether inside a function."""
    if isinstance(node, _Documented):
        yield prefix, node, is_nested
    is_nested = is_nested or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # no definition stands inside an expression
            continue
        name = f"{prefix}.{child.name}".lstrip(".") if isinstance(child, _Named) else prefix
        yield from _documented(child, name, is_nested)


def _definition(package: str, module: str, name: str, node: _Documented, raw: str) -> Definition | None:
    """None for what is private, deeper than a method, or without a summary that could be asked for."""
    parts = name.split(".")
    if isinstance(node, ast.Module) or len(parts) > 2 or any(part.startswith("_") for part in parts):
        return None
    whole = split_docstring(raw)
    if whole is None:
        first = plain_text(raw).strip().split("\n\n")[0]
        summary = " ".join(first.split()).strip('": ')
        whole = (summary, "") if is_query(summary) else None
    return (
        None if whole is None else Definition(package, module, name, isinstance(node, ast.ClassDef), *whole)
    )


def _comment_blocks(lines: list[str], quoted: set[int]) -> Iterator[str]:
    """Runs of whole-line comments that are prose, outside of docstrings; no licenses, no code."""
    block: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        match = _COMMENT.match(line) if number not in quoted else None
        if match is not None:
            block.append(match[1].rstrip())
        elif block:
            prose = [text for text in block if not _NO_PROSE.match(text) and not _CODE.search(text)]
            text = " ".join(" ".join(prose).split())
            if len(text.split()) >= MIN_WORDS and len(prose) > len(block) // 2 and not _LICENSE.search(text):
                yield text
            block = []
