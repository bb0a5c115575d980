"""Write the page: `python -m experiments.scale`."""

from pathlib import Path

from experiments.scale.page import page

if __name__ == "__main__":
    Path(__file__).with_name("README.md").write_text(page(), "utf-8")
