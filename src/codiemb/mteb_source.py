"""What mteb's source code says of tasks and models, read as text: importing mteb takes ten seconds of a CPU.

A reader takes too many names for known rather than too few; what it does not find in a newer mteb is left to
mteb itself. A test holds it to the registries of the version that is installed.
"""

import ast
import functools
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

_NAME = re.compile(rb"""\bname\s*=\s*["']([^"'\n]+)["']""")


@functools.cache
def task_names() -> frozenset[str]:
    """The names of mteb's tasks, and the old ones that it still takes; empty if it keeps them elsewhere."""
    named = _named("tasks")
    return frozenset({*named, *_assigned("get_tasks.py", "_TASK_RENAMES")} if named else ())


@functools.cache
def task_types() -> frozenset[str]:
    """The names of mteb's task types; empty if it keeps them elsewhere."""
    return frozenset(_assigned("abstasks/task_metadata.py", "TaskType"))


def model_names() -> Mapping[str, Path]:
    """The models of mteb's registry, each with the file that describes it."""
    return _named("models/model_implementations")


def model_entry(name: str) -> dict[str, object]:
    """What a model's `ModelMeta(...)` states in plain literals; nothing of a name that is not there."""
    file = model_names().get(name)
    for node in ast.walk(ast.parse(file.read_bytes())) if file else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ModelMeta":
            stated = {each.arg: _literal(each.value) for each in node.keywords if each.arg}
            if stated.get("name") == name:
                return {key: value for key, value in stated.items() if value is not ...}
    return {}


def _literal(node: ast.expr) -> object:
    """The value of a literal, `...` for anything else; `dict(a=1)` is one, too."""
    try:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            return {each.arg: _literal(each.value) for each in node.keywords if each.arg}
        value: object = ast.literal_eval(node)
    except ValueError:
        return ...
    return value


@functools.cache
def _named(folder: str) -> dict[str, Path]:
    files = (_root() / folder).rglob("*.py")
    return {name.decode(): file for file in files for name in _NAME.findall(file.read_bytes())}


def _assigned(file: str, name: str) -> set[str]:
    """The texts in what a module assigns to a name."""
    path = _root() / file
    body = ast.parse(path.read_bytes()).body if path.is_file() else []
    values = [
        node.value
        for node in body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]
    parts = (part for value in values for part in ast.walk(value) if isinstance(part, ast.Constant))
    return {part.value for part in parts if isinstance(part.value, str)}


def _root() -> Path:
    found = find_spec("mteb")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])
