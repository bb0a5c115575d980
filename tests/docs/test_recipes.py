"""docs/recipes.md is what data_prep/recipes says today."""

from data_prep.fetch.importers import IMPORTERS
from docs.generator import recipes
from tests.support.paths import ROOT


def test_the_page_is_up_to_date():
    written = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert written == recipes.page(), f"docs/recipes.md is stale: write it again with `{recipes.COMMAND}`"
    assert all(f"`{name}`" in written for name in IMPORTERS)
