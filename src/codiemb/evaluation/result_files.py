"""Reads results: our results.json, or the result files of mteb 1.2 to 2.x (`mteb_files`).

A score is mteb's main score, a fraction. Tasks of the CMTEB table are taken on its splits, so that all rows
are scored on the same texts.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from codiemb.cmteb_names import CMTEB_TASKS
from codiemb.errors import UserError
from codiemb.evaluation.mteb_files import TaskFile, task_results
from codiemb.evaluation.per_query import PER_QUERY
from codiemb.evaluation.result_settings import (
    Settings,
    flat,
    meta_settings,
    our_settings,
    run_settings,
    task_settings,
)
from codiemb.json_files import NAMES, NUMBER, TEXT, take
from codiemb.result_folder import ResultFile, ResultFolder, find_results

ONLY_MAP, STATES_ONLY = "map", "states only"  # old files of reranking tasks
_AGAIN = "evaluate again"
_LOCAL = re.compile(r"[0-9a-f]{16}")  # revisions of local files; those of the hub are commits, with 40 digits


@dataclass(frozen=True)
class Scored:
    """One task's score and what it was scored on."""

    task: str
    type: str  # mteb's: Retrieval, STS, ...; "" where it is not known
    metric: str
    score: float
    splits: tuple[str, ...]
    revision: str  # of the dataset
    settings: Mapping[str, str] = field(default_factory=dict)  # of this task, as text
    subsets: tuple[str, ...] = ()  # of mteb's files: the languages of each part that the score is the mean of


@dataclass(frozen=True)
class Results:
    """One model's results."""

    model: str
    source: Path
    tasks: Mapping[str, Scored]
    left_out: Mapping[str, str] = field(default_factory=dict)  # task: why its score is not taken
    settings: Mapping[str, str] = field(default_factory=dict)  # of all tasks, as text
    notes: tuple[str, ...] = ()
    per_query: Path | None = None

    @property
    def scores(self) -> dict[str, float]:
        """{task: main score}."""
        return {name: entry.score for name, entry in self.tasks.items()}


def read_results(path: Path) -> Results:
    """Results of one model from the folder of a run, from mteb's files, or from one file of either.

    Raises:
        UserError: as `find_results`; or a file that cannot be read, or two that state the same task.
    """
    found = find_results(path)
    return _read_ours(found, found.ours) if found.ours is not None else _read_files(found)


def _read_ours(found: ResultFolder, ours: ResultFile) -> Results:
    file, record = ours
    rows = [_our_row(row, file) for row in record["results"]]
    refuse_twice(file, [row.task for row in rows])
    left_out = dict(_our_missing(record, file))
    left_out |= {row.task: why for row in rows if (why := _not_of_the_table(row))}
    return Results(
        found.model,
        found.path,
        {row.task: row for row in rows if row.task not in left_out},
        left_out,
        our_settings(record, file.parent),
        per_query=file.parent / PER_QUERY,
    )


def _our_missing(record: Mapping[str, Any], file: Path) -> Iterator[tuple[str, str]]:
    """The tasks that the file names without a score; those of a run that was stopped, too."""
    for row in record.get("missing", []):
        yield _text(row, "task", file), str(row.get("reason"))
    for name in record.get("pending", []):
        yield str(name), "the evaluation was stopped before it"


def _our_row(row: object, file: Path) -> Scored:
    task, metric, revision = (_text(row, key, file) for key in ("task", "metric", "revision"))
    assert isinstance(row, dict)
    score, splits = take(row, "score", NUMBER, file, _AGAIN), take(row, "splits", NAMES, file, _AGAIN)
    if score is None:
        raise UserError(f"{file}: a result without score ({task}); {_AGAIN}")
    kind = str(row.get("type", ""))
    return Scored(task, kind, metric, float(score), tuple(sorted(splits or ())), revision, task_settings(row))


def _text(row: object, key: str, file: Path) -> str:
    value = take(row, key, TEXT, file, _AGAIN) if isinstance(row, dict) else None
    if value is None:
        raise UserError(f"{file}: a result without {key}; {_AGAIN}")
    text: str = value
    return text


def refuse_twice(file: Path, names: Sequence[str]) -> None:
    """Raises UserError where a file states a task twice: which score is meant?"""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{file} states {', '.join(twice)} twice; {_AGAIN}")


def _not_of_the_table(row: Scored) -> str:
    """Why a stored score is none of the table's; "" where it is."""
    about = CMTEB_TASKS.get(row.task)
    if why := _no_score(row.task, row.score):
        return why
    if about is None:
        return ""
    if _LOCAL.fullmatch(row.revision):
        return "scored on local files of this name (task=folder), which are other data"
    if sorted(row.splits) != sorted(about.splits):
        return f"scored on {' and '.join(row.splits)}, the table takes {' and '.join(about.splits)}"
    return ""


def _no_score(task: str, score: float) -> str:
    """Why a number is no score; "" where it is one. Those of the 31 tasks are fractions."""
    is_one = math.isfinite(score) and (task not in CMTEB_TASKS or abs(score) <= 1)
    return "" if is_one else f"its score is {score:g}, no fraction"


def _read_files(found: ResultFolder) -> Results:
    tasks: dict[str, Scored] = {}
    left_out: dict[str, str] = {}
    origin: dict[str, Path] = {}
    folders = sorted({file.path.parent for file in found.files})
    recorded = {folder: run_settings(folder) for folder in folders}
    for file, result in [(each.path, result) for each in found.files for result in task_results(each)]:
        name = result.task
        if name in origin:
            raise UserError(f"{origin[name]} and {file} both state {name}: give the folder of one")
        origin[name] = file
        scored = _scored(result, recorded[file.parent].get(name, {}))
        if isinstance(scored, str):
            left_out[name] = scored
        else:
            tasks[name] = scored
    common = {"model": found.model, "model_revision": ", ".join(found.revisions)}
    settings = flat(common) | meta_settings(folders)
    return Results(found.model, found.path, tasks, left_out, settings, _notes(found, tasks))


def _scored(result: TaskFile, recorded: Settings) -> Scored | str:
    """The score on the table's splits; or why there is none."""
    about = CMTEB_TASKS.get(result.task)
    splits = sorted(about.splits if about else result.scores)
    if absent := [split for split in splits if split not in result.scores]:
        return f"its file has no split {' or '.join(absent)}"
    rows = [row for split in splits for row in result.scores[split]]
    score = fmean(map(_main, rows)) if rows else math.nan
    if not math.isfinite(score):
        return "its file states no main score"
    if why := _no_score(result.task, score):
        return why
    kind, metric = ("", "main_score") if about is None else (about.type, about.metric)
    more = {"revision": result.revision, "splits": splits, "mteb_version": result.mteb_version}
    if any(row["main_score"] is None for row in rows):
        more |= {STATES_ONLY: ONLY_MAP}
    subsets = _subsets(rows)
    if about and len(subsets) > 1:
        return f"its score is of {' and '.join(subsets)}, the table takes Chinese alone"
    settings = flat(more) | recorded
    return Scored(result.task, kind, metric, score, tuple(splits), result.revision, settings, subsets)


def _subsets(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """By languages: versions of mteb have other names for the same part."""
    parts = {str(row.get("hf_subset")): "+".join(map(str, row.get("languages") or ())) for row in rows}
    return tuple(sorted(parts.values()))


def other_subsets(a: Scored, b: Scored) -> bool:
    """Whether two scores are means over other parts; where one does not state its parts, nobody knows."""
    return bool(a.subsets and b.subsets) and a.subsets != b.subsets


def _main(scores: Mapping[str, Any]) -> float:
    """The main score. Old files of reranking tasks state only `map`, that over all candidates."""
    main = scores["main_score"]
    return float(scores.get(ONLY_MAP, math.nan) if main is None else main)


def _notes(found: ResultFolder, tasks: Mapping[str, Scored]) -> tuple[str, ...]:
    notes = []
    if len(found.revisions) > 1:
        notes.append(f"{found.model}: joined from the revisions {', '.join(found.revisions)}.")
    if only_map := [name for name, entry in tasks.items() if STATES_ONLY in entry.settings]:
        notes.append(f"{found.model}: {', '.join(only_map)} state only `map`, which is taken.")
    return tuple(notes)
