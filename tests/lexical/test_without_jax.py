"""An installed JAX is left alone: starting it costs three quarters of a card."""

import sys
from types import ModuleType

from codiemb.lexical.without_jax import import_bm25s


def test_bm25s_does_not_start_an_installed_jax(monkeypatch):
    started = []
    jax, lax = ModuleType("jax"), ModuleType("jax.lax")
    jax.__path__, jax.lax, lax.top_k = [], lax, lambda *arguments: started.append(arguments)
    for name in [name for name in sys.modules if name.split(".")[0] == "bm25s"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.lax", lax)
    bm25s = import_bm25s()
    assert not started
    assert not bm25s.selection.JAX_IS_AVAILABLE
    assert sys.modules["jax"] is jax
    assert sys.modules["jax.lax"] is lax
    for name in [name for name in sys.modules if name.split(".")[0] == "bm25s"]:
        monkeypatch.delitem(sys.modules, name)
