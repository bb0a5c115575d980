"""The one part of an experiment's page that people write: its conclusion outlives the page's next version."""

from pathlib import Path

_HEADING = "## Conclusion"


def kept_conclusion(page: Path) -> str:
    """The section as it stands on the page, or its heading over an empty promise."""
    text = page.read_text("utf-8").partition(_HEADING)[2].strip() if page.is_file() else ""
    return f"{_HEADING}\n\n{text or 'Not written yet.'}"
