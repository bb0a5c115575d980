"""docs/contributing.md names every private name of another package that our code uses, and no other."""

import ast
import re

import pytest

from tests.support.paths import ROOT
from tests.support.private_names import Use, foreign_names, names_shared_with_bases, own_names, uses_in_code

PAGE = (ROOT / "docs" / "contributing.md").read_text("utf-8")


def listed() -> set[Use]:
    """The rows of the table: names in the first column, files in the third."""
    table = PAGE.partition("## Private names")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    assert rows, "docs/contributing.md has no table of private names"
    return {
        Use(name, file)
        for row in rows
        for name in re.findall(r"`([^`]+)`", row[0])
        for file in re.findall(r"`([^`]+)`", row[2])
    }


@pytest.mark.slow  # it imports all of the package, and with it mteb and DeepSpeed
def test_the_list_of_private_names_is_that_of_the_code():
    used, named = uses_in_code(), listed()
    new = [f"{file} uses {name}" for name, file in sorted(used - named)]
    gone = [f"{file} no longer uses {name}" for name, file in sorted(named - used)]
    assert new + gone == [], "correct the table `Private names` of docs/contributing.md"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import hydra._internal", "hydra._internal"),
        ("from torch import _C", "torch._C"),
        ("from transformers.utils import _hidden", "transformers.utils._hidden"),
        ("trainer._results.metrics()", "_results"),
        ("optimizer._flag = False", "_flag"),
        ("getattr(engine, '_copy', None)", "_copy"),
        ("monkeypatch.setattr('mteb._run.start', f)", "_run"),
    ],
)
def test_a_private_name_of_another_package_is_found(source, name):
    assert name in set(foreign_names(ast.parse(source), own=set()))


@pytest.mark.parametrize(
    "source",
    [
        "from codiemb.encoder import _own",
        "cfg._target_",
        "object.__init__(self)",
        "record._asdict()",
        "class A:\n    def __init__(self): self._kept = 1\na._kept",
        "def _helper(): ...\nmodule._helper",
        "from __future__ import annotations",
    ],
)
def test_own_and_documented_names_are_left_alone(source):
    tree = ast.parse(source)
    assert set(foreign_names(tree, own_names([tree]))) == set()


def test_an_own_attribute_that_a_foreign_base_also_has_is_found():
    from codiemb.training import FSDP2, JsonlLogger

    assert "_data_parallel_size" in names_shared_with_bases(FSDP2)
    assert names_shared_with_bases(JsonlLogger) == set()
