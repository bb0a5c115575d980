"""A family of exports, and copies of its members with one thing changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.family import NUM_CHILDREN, export_family


@pytest.fixture(scope="session")
def family(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_family(tmp_path_factory.mktemp("family"), byte_level, "qwen3")


@pytest.fixture
def children(family: Path) -> list[Path]:
    return [family / f"child{number}" for number in range(NUM_CHILDREN)]


@pytest.fixture
def edited(family: Path, tmp_path: Path) -> Callable[[str, Callable[[dict], object]], Path]:
    """A copy of child1 with one of its JSON files changed."""

    def edit(file: str, change: Callable[[dict], object]) -> Path:
        copy = tmp_path / "edited"
        shutil.copytree(family / "child1", copy)
        content = json.loads((copy / file).read_text("utf-8"))
        change(content)
        (copy / file).write_text(json.dumps(content), "utf-8")
        return copy

    return edit
