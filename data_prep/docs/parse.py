"""Finds the source files of installed packages and reads their docstrings with ast; imports none of them."""

import ast
import importlib.util
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from data_prep.docs.clean import clean_code, split_docstring

MAX_FILE_BYTES = 400_000  # larger files are generated tables; parsing them costs seconds
MIN_CODE_CHARS = 120  # a shorter body is a one-line delegation
_SKIPPED_FOLDER = re.compile(
    r"tests?|_?testing|_?vendor(?:ed)?|externals|third_party|benchmarks|examples|proto"
)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented function, class or method."""

    package: str
    module: str
    name: str
    query: str
    body: str
    code: str  # empty where there is none, or too little of it

    @property
    def documents(self) -> list[str]:
        """The texts relevant to the query."""
        return [self.body, self.code] if self.code else [self.body]


def stable_hash(*parts: object) -> int:
    """64 bits that depend on the parts only: not on the process, the platform or the order of calls."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def package_root(package: str) -> Path | None:
    """The folder of an installed top-level package, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _is_source(relative: Path, path: Path) -> bool:
    """Not a test, not third-party, not generated; modular_*.py is what transformers makes its models from."""
    stem = relative.stem
    left_out = (
        stem.startswith(("test_", "modular_")) or stem.endswith(("_test", "_pb2")) or stem == "conftest"
    )
    skipped = left_out or any(map(_SKIPPED_FOLDER.fullmatch, relative.parts))
    return not skipped and path.stat().st_size <= MAX_FILE_BYTES


def source_files(package: str, max_files: int) -> list[tuple[str, str, str]]:
    """(package, module, path) of at most max_files files, chosen by a hash of the module's name, sorted."""
    root = package_root(package)
    if root is None:
        return []
    found = []
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if _is_source(relative, path):
            parts = relative.with_suffix("").parts
            found.append((package, ".".join((package, *(p for p in parts if p != "__init__"))), str(path)))
    found.sort(key=lambda item: stable_hash(item[1]))
    return sorted(found[:max_files])


def read_source(path: str) -> tuple[str, ast.Module]:
    """A file's text and tree; both are empty where it is not valid Python."""
    try:
        source = Path(path).read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            return source, ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return "", ast.Module([], [])


def _definitions(tree: ast.Module) -> Iterator[tuple[str, _Definition]]:
    """Public top-level functions and classes, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, _Definition) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for child in node.body:
                    if isinstance(child, _Definition) and not child.name.startswith("_"):
                        yield f"{node.name}.{child.name}", child


def _code(node: _Definition, lines: list[str]) -> str:
    """Signature and body without decorators and docstring; none for classes, their code is their methods'."""
    if isinstance(node, ast.ClassDef):
        return ""
    docstring = node.body[0]
    head = lines[node.lineno - 1 : docstring.lineno - 1]
    tail = lines[docstring.end_lineno : node.end_lineno]
    code = clean_code(textwrap.dedent("\n".join(head + tail)))
    return code if head and len(node.body) > 2 and len("\n".join(tail).strip()) >= MIN_CODE_CHARS else ""


def parse_file(item: tuple[str, str, str]) -> list[Entry]:
    """The usable entries of one file; a file that is not valid Python has none."""
    package, module, path = item
    source, tree = read_source(path)
    lines = source.split("\n")
    entries = []
    for name, node in _definitions(tree):
        raw = ast.get_docstring(node, clean=False)
        split = split_docstring(raw) if raw else None
        if split is not None:
            entries.append(Entry(package, module, name, *split, _code(node, lines)))
    return entries
