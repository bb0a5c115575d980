"""Reads results: our results.json, or the result files of mteb 1.2 to 2.x, through mteb's own loaders.

A score is mteb's main score, a fraction. Tasks of the CMTEB table are taken on its splits, so that all rows
are scored on the same texts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mteb.results import ModelResult, TaskResult

from codiemb.errors import UserError
from codiemb.evaluation.benchmark import cmteb_by_name
from codiemb.evaluation.isolation import quiet_mteb
from codiemb.evaluation.per_query import PER_QUERY
from codiemb.evaluation.result_settings import (
    Settings,
    flat,
    meta_settings,
    our_settings,
    run_settings,
    task_settings,
)
from codiemb.json_files import NUMBER, TEXT, read_json, take
from codiemb.result_folder import NOT_STATED, ResultFolder, find_results

ONLY_MAP, STATES_ONLY = "map", "states only"  # old files of reranking tasks


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


def _read_ours(found: ResultFolder, file: Path) -> Results:
    record = read_json(file, {})
    rows = [_our_row(row, file) for row in record["results"]]
    left_out = {row["task"]: str(row["reason"]) for row in record.get("missing", [])}
    left_out |= {row.task: why for row in rows if (why := _other_splits(row.task, row.splits))}
    return Results(
        found.model,
        found.path,
        {row.task: row for row in rows if row.task not in left_out},
        left_out,
        our_settings(record, file.parent),
        per_query=file.parent / PER_QUERY,
    )


def _our_row(row: Mapping[str, Any], file: Path) -> Scored:
    hint = "evaluate again"
    texts = {key: take(row, key, TEXT, file, hint) for key in ("task", "metric", "revision")}
    score = take(row, "score", NUMBER, file, hint)
    if score is None or None in texts.values():
        raise UserError(f"{file}: a result without task, metric, score or revision; {hint}")
    return Scored(
        texts["task"],
        str(row.get("type", "")),
        texts["metric"],
        float(score),
        tuple(sorted(row.get("splits", []))),
        texts["revision"],
        task_settings(row),
    )


def _other_splits(task: str, splits: tuple[str, ...]) -> str:
    """Why a stored mean over splits is none of the table's; "" where it is."""
    wanted = _splits(task)
    if wanted is None or sorted(splits) == sorted(wanted):
        return ""
    return f"scored on {' and '.join(splits)}, the table takes {' and '.join(wanted)}"


def _splits(task: str) -> list[str] | None:
    known = cmteb_by_name().get(task)
    return None if known is None else list(known.eval_splits)


def _read_files(found: ResultFolder) -> Results:
    tasks: dict[str, Scored] = {}
    left_out: dict[str, str] = {}
    origin: dict[str, Path] = {}
    folders = sorted({file.parent for file in found.files})
    recorded = {folder: run_settings(folder) for folder in folders}
    for file, result in [(each, result) for each in found.files for result in _loaded(each)]:
        name = result.task_name
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


def _loaded(file: Path) -> list[TaskResult]:
    """By mteb's own loaders, which know the layouts."""
    try:
        with quiet_mteb():
            if "task_results" in read_json(file, {}):
                return list(ModelResult.from_disk(file).task_results)
            return [TaskResult.from_disk(file)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # pydantic's are ValueErrors
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file}: mteb cannot read it ({reason}); copy it again, or take it out") from error


def _scored(result: TaskResult, recorded: Settings) -> Scored | str:
    """The score on the table's splits; or why there is none."""
    name = result.task_name
    splits = sorted(_splits(name) or result.scores)
    if absent := [split for split in splits if split not in result.scores]:
        return f"its file has no split {' or '.join(absent)}"
    score = float(result.get_score(splits=splits, getter=_main))
    if not math.isfinite(score):
        return "its file states no main score"
    task = cmteb_by_name().get(name)
    kind, metric = ("", "main_score") if task is None else (task.metadata.type, task.metadata.main_score)
    revision = result.dataset_revision or NOT_STATED
    more = {"revision": revision, "splits": splits, "mteb_version": result.mteb_version}
    if any(row["main_score"] is None for split in splits for row in result.scores[split]):
        more |= {STATES_ONLY: ONLY_MAP}
    return Scored(name, kind, metric, score, tuple(splits), revision, flat(more) | recorded)


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
