"""What holds for all tests: their order, and the fixtures of tests/support/fixtures.py."""

import gc

import pytest

gc.disable()  # until all is imported


@pytest.hookimpl(tryfirst=True)  # before it starts the workers
def pytest_sessionstart(session: pytest.Session) -> None:
    """The process that only deals tests out to workers runs none: torch and mteb would take it 10 CPU s."""
    plugins = session.config.pluginmanager
    if plugins.has_plugin("dsession"):
        gc.enable()
    else:
        plugins.import_plugin("tests.support.fixtures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, one of them would leave the other core idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What the imports have made stays: to look through it again takes every collection 0.4 s."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # Python's 700, 10, 10 takes 3 % of the suite
    gc.enable()
