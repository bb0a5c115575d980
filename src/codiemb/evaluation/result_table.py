"""Several results side by side: the CMTEB means beside the published rows, and the score of every task."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text
from codiemb.cmteb_names import CMTEB_TYPES
from codiemb.evaluation.cmteb import CATEGORIES, CONVENTION, CmtebTable, cmteb_row, cmteb_sheet
from codiemb.evaluation.published import PUBLISHED
from codiemb.evaluation.result_files import Results
from codiemb.evaluation.result_plot import plot_rows
from codiemb.tables import Sheet, complete_mean, percent

MEANS = ("mean_task", "mean_type")


class ResultTable:
    """The rows of a table, numbered: two may be of one model.

    Args:
        results: in the order of the rows.
    """

    def __init__(self, results: Sequence[Results]) -> None:
        self.rows = {f"{number}:{result.model}": result for number, result in enumerate(results, 1)}
        types = CMTEB_TYPES
        self.has_cmteb = any(name in types for result in results for name in result.tasks)
        self.cmteb: Mapping[str, CmtebTable] = {}
        if self.has_cmteb:
            self.cmteb = {label: cmteb_row(result) for label, result in self.rows.items()}
        every = dict.fromkeys(name for result in results for name in (*result.tasks, *result.left_out))
        self.tasks = tuple(types) if self.has_cmteb else tuple(every)
        self.num_others = len(every.keys() - set(self.tasks))

    def sheets(self) -> list[Sheet]:
        """What a terminal shows: means beside the published rows, where there are any; then the tasks."""
        return [*([cmteb_sheet(self.cmteb)] if self.has_cmteb else []), self.task_sheet()]

    def task_sheet(self) -> Sheet:
        """A row for each task, a column for each model; no mean over part of the tasks."""
        columns = {label.partition(":")[0]: self._column(result) for label, result in self.rows.items()}
        cells = [(task, *(percent(scores[task]) for scores in columns.values())) for task in self.tasks]
        if len(self.tasks) > 1:
            means = [complete_mean(list(scores.values())) for scores in columns.values()]
            cells.append(("Mean", *map(percent, means)))
        return Sheet("Tasks", ("Task", *columns), tuple(cells), tuple(self._notes()))

    def save(self, folder: Path) -> None:
        """Write table.md, table.csv, table.json and table.png."""
        write_text(folder / "table.md", "\n".join(sheet.markdown() for sheet in self.sheets()))
        write_text(folder / "table.csv", self.csv())
        write_text(folder / "table.json", json.dumps(self.record(), ensure_ascii=False, indent=2) + "\n")
        self.plot(folder / "table.png")

    def plot(self, path: Path) -> None:
        """Draw the means and categories, or the tasks where there are none of CMTEB."""
        if not self.has_cmteb:
            values = {
                label: [None if v is None else 100 * v for v in self._column(result).values()]
                for label, result in self.rows.items()
            }
            return plot_rows(self.tasks, values, {}, path)
        axes = ("Mean(Task)", "Mean(Type)", *CATEGORIES)
        published = {row.model: list(row[1:9]) for row in PUBLISHED}
        rows = {
            label: [table.mean_task, table.mean_type, *table.categories.values()]
            for label, table in self.cmteb.items()
        }
        return plot_rows(axes, rows, published, path)

    def record(self) -> dict[str, Any]:
        """Everything of the table in percent; null where a mean would be over part of its tasks."""
        published = [
            {"model": row.model, "mean_task": row.mean_task, "mean_type": row.mean_type}
            | {"categories": dict(zip(CATEGORIES, row.categories, strict=True)), "note": row.note}
            for row in PUBLISHED
        ]
        return {
            "convention": CONVENTION,
            "rows": [self._entry(label, result) for label, result in self.rows.items()],
            "published": published if self.has_cmteb else [],
        }

    def csv(self) -> str:
        """A line for each model: means, categories and tasks in percent; empty where there is none."""
        text = io.StringIO()
        parts = [*MEANS, *CATEGORIES] if self.has_cmteb else ["mean_task"]
        lines = csv.DictWriter(text, ["model", *parts, *self.tasks], lineterminator="\n")
        lines.writeheader()
        for entry in [*self.record()["published"], *self.record()["rows"]]:
            cells = entry | entry.get("categories", {}) | entry.get("tasks", {})
            lines.writerow({name: cells.get(name) for name in lines.fieldnames})
        return text.getvalue()

    def _column(self, result: Results) -> dict[str, float | None]:
        return {task: result.scores.get(task) for task in self.tasks}

    def _entry(self, label: str, result: Results) -> dict[str, Any]:
        scores = self._column(result)
        entry: dict[str, Any] = {"model": label, "source": str(result.source)}
        mean = complete_mean(list(scores.values()))
        entry["mean_task"] = _rounded(mean and 100 * mean)
        if self.has_cmteb:
            table = self.cmteb[label]
            entry["mean_type"] = _rounded(table.mean_type)
            entry["categories"] = {kind: _rounded(value) for kind, value in table.categories.items()}
        entry["tasks"] = {task: _rounded(None if v is None else 100 * v) for task, v in scores.items()}
        missing = {task: result.left_out.get(task, "no result") for task, v in scores.items() if v is None}
        return entry | {"missing": missing, "notes": list(result.notes)}

    def _notes(self) -> list[str]:
        notes = [f"{label}: {result.source}" for label, result in self.rows.items()]
        notes += dict.fromkeys(note for result in self.rows.values() for note in result.notes)
        if not self.has_cmteb:
            notes += [note for label, result in self.rows.items() if (note := self._missing(label, result))]
        if differing := [task for task in self.tasks if self._differs(task)]:
            notes.append(f"Other data or another metric in some columns: {', '.join(differing)}.")
        if self.num_others:
            notes.append(f"{self.num_others} tasks that are none of the 31 are not shown.")
        return notes

    def _missing(self, label: str, result: Results) -> str:
        names = [
            task + (f" ({result.left_out[task]})" if task in result.left_out else "")
            for task in self.tasks
            if task not in result.tasks
        ]
        return f"{label} has no {', '.join(names)}: no mean over the others." if names else ""

    def _differs(self, task: str) -> bool:
        """Data of another revision, split or subset, or another metric; `map` is that of all candidates."""
        found = [result.tasks[task] for result in self.rows.values() if task in result.tasks]
        stated = {entry.subsets for entry in found if entry.subsets}
        return len({(entry.revision, entry.splits, entry.metric) for entry in found}) > 1 or len(stated) > 1


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
