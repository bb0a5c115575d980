"""Write docs/configuration.md."""

from docs.generator.files import ROOT
from docs.generator.page import page

if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(page(), "utf-8")
