"""Which private names of other packages our code uses, from its syntax and from what its classes inherit."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

FOLDERS = ("src", "data_prep", "docs", "experiments", "tests")
OURS = {"codiemb", "data_prep", "docs", "experiments", "tests", "run_train", "run_eval"}
# public in spite of the underscore: Python documents them
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}
BY_STRING = {"getattr", "setattr", "hasattr", "delattr", "patch", "object"}  # mock.patch.object


class Use(NamedTuple):
    """A private name and the file, from the root of the repository, that uses it."""

    name: str
    file: str


def code_files() -> list[Path]:
    """All Python files of the repository."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return found + sorted(ROOT.glob("run_*.py"))


def uses_in_code() -> set[Use]:
    """Of all files: what their syntax shows, and what the classes of the package take from their bases."""
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in code_files()}
    own = own_names(trees.values())
    seen = {Use(name, file) for file, tree in trees.items() for name in foreign_names(tree, own)}
    keys = {Use(key, file) for file, tree in trees.items() if file.startswith("src") for key in _keys(tree)}
    return (
        seen | {use for use in keys if is_private(use.name) and use.name not in own} | set(inherited_uses())
    )


def is_private(name: str) -> bool:
    """One leading underscore, and not the `_target_` or `__init__` kind, nor a documented one."""
    return name.startswith("_") and not name.endswith("_") and name not in DOCUMENTED


def own_names(trees: Iterable[ast.AST]) -> set[str]:
    """Functions, classes, variables and attributes of `self` that our code defines."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def foreign_names(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Private modules and names that are imported, and private attributes that none of our code defines."""
    for node in ast.walk(tree):
        for module in _imported(node):
            parts = module.split(".")
            if parts[0] not in OURS and any(map(is_private, parts)):
                yield module
        for name in _names_read(node):
            if is_private(name) and name not in own:
                yield name


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _names_read(node: ast.AST) -> Iterator[str]:
    """Attributes, and names given as strings to getattr and its like."""
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        for argument in node.args if called in BY_STRING else []:
            yield from (part for text in _strings(argument) for part in text.split("."))


def _keys(tree: ast.AST) -> Iterator[str]:
    """Of dictionaries, sets and subscripts: the state of another package is read by them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict | ast.Set):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            yield from (text for item in items for text in _strings(item))
        elif isinstance(node, ast.Subscript):
            yield from _strings(node.slice)


def _strings(node: ast.AST | None) -> list[str]:
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return [value] if isinstance(value, str) and re.fullmatch(r"[\w.]+", value) else []


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "ctx")


def inherited_uses() -> Iterator[Use]:
    """Private names of `self` in a class of the package that a base from another package has, too."""
    import codiemb

    for module in pkgutil.walk_packages(codiemb.__path__, "codiemb."):
        if module.name.endswith("__main__"):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name:
                file = str(Path(inspect.getfile(found)).relative_to(ROOT))
                yield from (Use(name, file) for name in names_shared_with_bases(found))


def names_shared_with_bases(found: type) -> set[str]:
    """Private attributes and methods that the class and the source of a foreign base both have."""
    sources = [_source(base) for base in found.__mro__[1:] if _is_foreign(base)]
    if not sources:
        return set()
    names = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(found)))):
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    shared = r"\bself\.{0}\b|\bdef {0}\b|^    {0}\s*[:=]"
    return {
        name
        for name in filter(is_private, names)
        if any(re.search(shared.format(re.escape(name)), source, re.MULTILINE) for source in sources)
    }


def _source(base: type) -> str:
    try:
        return inspect.getsource(base)
    except OSError:  # written in C
        return ""


def _is_foreign(base: type) -> bool:
    package = base.__module__.partition(".")[0]
    return package not in OURS and package not in sys.stdlib_module_names
