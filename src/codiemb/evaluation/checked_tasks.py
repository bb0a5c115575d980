"""Which tasks of a table training data was searched for, as the manifest of the data says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.json_files import read_json
from codiemb.tables import Sheet

MANIFEST = "manifest.json"


def checked_sheet(tasks: Sequence[str], manifest: Path) -> Sheet:
    """A row for each task: how many of its texts the data was compared with, and in which revision.

    Args:
        tasks: of the table.
        manifest: that `python -m data_prep export` wrote, or the folder with it.

    Raises:
        UserError: there is none, or it is no manifest.
    """
    path = manifest / MANIFEST if manifest.is_dir() else manifest
    if not path.is_file():
        raise UserError(f"manifest={manifest}: no such file; name what `python -m data_prep export` wrote")
    about = read_json(path, {}, "name the manifest of a data_prep step")
    if not isinstance(about, dict) or "step" not in about:
        raise UserError(f"manifest={path}: no manifest of data_prep (it names no step)")
    checked = {str(each["name"]): each for each in about.get("checked_against", [])}
    rows = tuple((task, *_cells(checked.get(task))) for task in tasks)
    known = sum(task in checked for task in tasks)
    note = (
        f"{path}: its texts were searched for those of {known} of these {len(tasks)} tasks (decontaminate). "
        "Training data that is not named there is not covered."
    )
    return Sheet(
        "Checked for test texts", ("Task", "Splits", "Texts", "Revision"), rows, (note,), text_columns=2
    )


def _cells(each: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if each is None:
        return "not checked", "–", "–"
    return ", ".join(each["splits"]) or "all", f"{each['texts']:,}", str(each["revision"])[:12]
