"""The files that data preparation writes: JSON lines."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One object a line, whole or not at all; texts stay readable (no \\u escapes)."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
