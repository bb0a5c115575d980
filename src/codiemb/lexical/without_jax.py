"""bm25s without JAX: where JAX is installed, bm25s starts it at import, for a top-k that numpy does as well.

JAX would then take three quarters of the card's memory for itself in every run, and warn at every fork of a
loader's worker that a deadlock is likely.
"""

import importlib
import sys
from types import ModuleType


def import_bm25s() -> ModuleType:
    """The package as it is where no JAX is installed; JAX itself stays as it was."""
    jax = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "jax"}
    for name in jax:
        del sys.modules[name]
    sys.modules["jax"] = None  # type: ignore[assignment]  # Python's own way to say: cannot be imported
    try:
        return importlib.import_module("bm25s")
    finally:
        del sys.modules["jax"]
        sys.modules.update(jax)


bm25s = import_bm25s()
