"""docs/contributing.md tells of the layers and the shape letters that the code has."""

import re

import codiemb.batch
from tests.support.paths import ROOT
from tests.test_laws import LAYERS

PAGE = (ROOT / "docs" / "contributing.md").read_text("utf-8")


def part(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_layers_are_those_that_the_laws_enforce():
    rows = [line.split("|")[2] for line in part("Layers").splitlines() if line.startswith("| ")][1:]
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [
        {name.removeprefix("codiemb.") for name in layer} for layer in LAYERS
    ]


def test_the_shape_letters_are_those_of_the_legend():
    legend = re.findall(r"\b([A-Z]) ([a-z]+)", (codiemb.batch.__doc__ or "").partition("legend")[2])
    assert len(legend) >= 8
    told = " ".join(part("Shape letters").split())
    assert [letter for letter, first in legend if f"{letter} {first}" not in told] == []
