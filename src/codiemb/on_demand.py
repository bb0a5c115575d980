"""Names of a package that are imported when they are first asked for: torch and mteb take seconds each."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        modules: the names that each of its modules gives.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def found(name: str) -> Any:  # noqa: ANN401  whatever the name stands for
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return found
