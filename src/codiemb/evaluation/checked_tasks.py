"""Which tasks of a table training data was searched for, as the manifest of the data says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.evaluation.result_files import Results
from codiemb.json_files import read_json
from codiemb.tables import Sheet

MANIFEST = "manifest.json"
Cells = tuple[str, str, str]


def checked_sheet(tasks: Sequence[str], results: Sequence[Results], manifest: Path) -> Sheet:
    """A row for each task: whether the data was searched for the texts that the results were scored on.

    Args:
        tasks: of the table.
        results: its columns; their revision of a task says which texts those are.
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
    rows = tuple((task, *_cells(task, results, about.get("checked_against", []))) for task in tasks)
    known = sum(row[1] == "checked" for row in rows)
    note = (
        f"{path}: its texts were searched for those of {known} of these {len(tasks)} tasks (decontaminate). "
        "Training data that is not named there is not covered."
    )
    return Sheet("Checked for test texts", ("Task", "Training data", "Splits", "Texts"), rows, (note,), 3)


def _cells(task: str, results: Sequence[Results], checked: Sequence[Mapping[str, Any]]) -> Cells:
    """The entry of the same texts; dev and test of a task have one name, and `dev/NAME` is one of them."""
    scored = {result.tasks[task].revision for result in results if task in result.tasks}
    named = [each for each in checked if each["name"] == task or each["name"].endswith(f"/{task}")]
    same = [each for each in named if scored <= {each["revision"], ""}]
    if not named:
        return "not checked", "–", "–"
    best = (same or named)[0]
    state = "checked" if same else "checked for other texts"
    return state, ", ".join(best["splits"]) or "all", f"{best['texts']:,}"
