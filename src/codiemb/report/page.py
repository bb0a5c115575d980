"""Fill the template: facts, tables and charts of one run, in one file that needs no network."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from codiemb.atomic import write_text
from codiemb.report import sections
from codiemb.report.axes import short
from codiemb.report.read import Run, read_run
from codiemb.tables import complete_mean

REPORT_FILE = "report.html"
Row = dict[str, Any]
_SCORES = ("before", "trained", "after", "bm25")


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder; returns its path.

    Raises:
        UserError: the folder holds no run, or a file in it cannot be read.
    """
    path = folder / REPORT_FILE
    write_text(path, render(read_run(folder)))
    return path


def render(run: Run) -> str:
    """The page. Every text of the run is escaped: a document may hold any markup."""
    templates = Environment(
        loader=PackageLoader("codiemb.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("template.html").render(
        run=run,
        title=_title(run),
        facts=_facts(run),
        evaluation=evaluation_table(run.before, run.after, run.trained, num_missing=run.num_missing),
        charts={
            "Dev metrics": sections.development(run),
            "Losses": sections.losses(run),
            "Contrast": sections.contrast(run),
            "Geometry of the embeddings": sections.geometry(run),
            "Similarity before and after": sections.histograms(run),
            "Optimisation and speed": sections.optimisation(run),
        },
        captions=CAPTIONS,
        environment=json.dumps(run.environment, indent=2, ensure_ascii=False),
        probe_sources=[first["source"] for first, _ in first_and_last(run.looks)],
        probes=probe_rows(run.looks),
        neighbours=neighbour_rows(run.looks),
    )


CAPTIONS = {
    "Losses": "Each task's loss and its unweighted terms. Thick: smoothed; faint: as logged.",
    "Contrast": "Cosine of queries with their positives and with the hardest negative left after masking.",
    "Geometry of the embeddings": (
        "Alignment (mean squared distance of positive pairs) and uniformity (spread over the sphere): lower "
        "is better. Effective rank: dimensions in use. The path runs from the hollow to the full point. "
        "Gradients that pull apart have a cosine below 0."
    ),
    "Similarity before and after": (
        "Cosines in the probe: records from the end of each source's first epoch (a run of less than one "
        "epoch has not trained on them). For graded pairs positive means a score of 0.8 or more, hard "
        "negative 0.2 or less; other is every pair of a query with another query's document."
    ),
}


def evaluation_table(
    before: list[Row], after: list[Row], trained: Sequence[Row] = (), *, num_missing: int = 0
) -> list[Row]:
    """Task, metric, scores, gain and BM25 as fractions; the mean last, of columns without a gap.

    Args:
        before: results before training.
        after: results of what the run exports.
        trained: results of the trained model, where that was fused with its start.
        num_missing: tasks that have no result: with any there is no mean.
    """
    tests = {_test(row) for row in after or before}
    earlier, between = (
        {row["task"]: row["score"] for row in rows if _test(row) in tests} for rows in (before, trained)
    )
    rows: list[Row] = [
        {
            "task": row["task"],
            "metric": row["metric"].replace("_at_", "@"),
            "before": earlier.get(row["task"]),
            "trained": between.get(row["task"]),
            "after": row["score"] if after else None,
            "bm25": row.get("bm25"),
        }
        for row in after or before
    ]
    if len(rows) > 1 and not num_missing:
        mean = {name: complete_mean([row[name] for row in rows]) for name in _SCORES}
        rows.append({"task": "Mean", "metric": "", **mean})
    return [row | {"gain": _gain(row["before"], row["after"])} for row in rows]


def _test(row: Row) -> tuple[str, ...]:
    """Scores compare only on the same data and splits, with the same metric and instructions."""
    more = (json.dumps(row.get(name), sort_keys=True) for name in ("splits", "prompts"))
    return row["task"], row["metric"], row["revision"], *more


def _gain(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def probe_rows(looks: list[Row]) -> list[Row]:
    """Every number of the probe: at the first and the last look of each source, None where there is none."""
    pairs = first_and_last(looks)
    names = dict.fromkeys(name for first, _ in pairs for name in first["metrics"])
    return [
        {
            "name": name.replace("_", " "),
            "values": [look["metrics"].get(name) for pair in pairs for look in pair],
        }
        for name in names
    ]


def neighbour_rows(looks: list[Row]) -> list[Row]:
    """Queries with their nearest documents at the first and the last look."""
    rows = []
    for first, last in first_and_last(looks):
        later = {entry["query"]: entry["documents"] for entry in last["neighbours"]}
        for entry in first["neighbours"]:
            found = [(first["step"], entry["documents"])]
            if last is not first:
                found.append((last["step"], later.get(entry["query"], [])))
            rows.append({"source": first["source"], "query": entry["query"], "looks": found})
    return rows


def first_and_last(looks: list[Row]) -> list[tuple[Row, Row]]:
    """Of each source; the same look twice where there was one."""
    by_source: dict[str, list[Row]] = {}
    for look in looks:
        by_source.setdefault(look["source"], []).append(look)
    return [(found[0], found[-1]) for found in by_source.values()]


def _title(run: Run) -> str:
    return f"{run.config.get('stage', 'run')} · {(run.config.get('model') or {}).get('name', 'model')}"


def _facts(run: Run) -> list[tuple[str, str]]:
    """The line of numbers under the title."""
    facts = [("status", "unfinished" if run.seconds is None else "finished")]
    if run.seconds is not None:
        facts.append(("wall clock", str(timedelta(seconds=round(run.seconds)))))
    steps = [step for task in run.tasks for step, _ in run.curves[f"train/loss/{task}"]]
    if steps:
        facts.append(("steps logged", f"{max(steps) + 1:,.0f}"))
    speeds = [value for _, value in run.curves.get("perf/tokens_per_second", [])]
    if speeds:
        facts.append(("tokens per second", f"{median(speeds):,.0f}"))
    memory = [value for _, value in run.curves.get("perf/peak_memory_mib", [])]
    if memory:
        facts.append(("peak memory", f"{max(memory) / 1024:.2f} GiB"))
    facts.append(("seed", str(run.config.get("seed", "–"))))
    commit = str(run.environment.get("git_commit") or "")[:10]
    if commit:
        facts.append(("commit", commit + (", modified" if run.environment.get("git_dirty") else "")))
    if run.num_left_out:
        facts.append(("values not finite", short(run.num_left_out)))
    return facts
