"""Write docs/configuration.md and docs/recipes.md."""

from docs.generator import page, recipes
from docs.generator.files import ROOT

if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(page.page(), "utf-8")
    (ROOT / "docs" / "recipes.md").write_text(recipes.page(), "utf-8")
