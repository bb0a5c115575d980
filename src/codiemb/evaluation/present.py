"""Shows an evaluation as tables, and writes it to a folder as JSON and Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from codiemb.atomic import write_text
from codiemb.evaluation.results import Evaluation, TaskScore
from codiemb.tables import Sheet, complete_mean, percent


def results_sheet(
    evaluation: Evaluation, before: Evaluation | None = None, trained: Evaluation | None = None
) -> Sheet:
    """One row per task: metric, score before training if given, score, BM25 where known.

    `trained`: of the model that was fused with its start, where `evaluation` is of the fusion.
    """
    num_missing, num_pending = len(evaluation.missing), len(evaluation.pending)
    count = f"{len(evaluation.results)} of {len(evaluation.results) + num_missing + num_pending}"
    has_bm25 = any(result.bm25 is not None for result in evaluation.results)
    others = {"Before": before, "After": trained}
    comparable = {name: _comparable(evaluation, other) for name, other in others.items() if other is not None}
    earlier = {name: scores for name, scores in comparable.items() if scores}  # no column without a score
    last = "Fused" if trained is not None else "After" if earlier else "Score"
    rows = [_row(result, earlier.values(), has_bm25) for result in evaluation.results]
    if len(rows) > 1 and not num_missing and not num_pending:
        rows.append(_mean_row(evaluation, earlier.values(), has_bm25))
    return Sheet(
        title=f"{evaluation.model}: {count} tasks (mteb {evaluation.mteb_version})",
        header=("Task", "Metric", *earlier, last, *(["BM25"] if has_bm25 else [])),
        rows=tuple(rows),
        notes=(f"{num_missing} left out: {_named(evaluation)}.",) if num_missing else (),
        text_columns=2,
    )


def comparison_sheet(title: str, columns: Mapping[str, Evaluation], notes: Sequence[str] = ()) -> Sheet:
    """One column of scores per model, in the rows and on the data of the last one."""
    last = list(columns.values())[-1]
    scores = {name: _comparable(last, evaluation) for name, evaluation in columns.items()}
    rows = [(r.task, r.metric_name, *(percent(s.get(r.task)) for s in scores.values())) for r in last.results]
    if len(rows) > 1 and not last.missing and not last.pending:
        means = [complete_mean([s.get(r.task) for r in last.results]) for s in scores.values()]
        rows.append(("Mean", "", *map(percent, means)))
    return Sheet(title, ("Task", "Metric", *columns), tuple(rows), tuple(notes), text_columns=2)


def prompts_sheet(evaluation: Evaluation) -> Sheet:
    """The exact string before the texts of each task, in quotes and as JSON; scores move with it."""
    return Sheet(
        title="Before each text",
        header=("Task", "Texts", "Prefix"),
        rows=tuple(
            (result.task, side, _shown_prefix(result, side))
            for result in evaluation.results
            for side in result.prompts
        ),
        text_columns=3,
    )


def setup_sheet(evaluation: Evaluation) -> Sheet:
    """What the encoder did, with which versions."""
    setup = evaluation.setup
    rows = [*setup.settings.items(), *setup.versions.items()]
    rows += [] if setup.seed is None else [("seed", setup.seed)]
    return Sheet(
        title="What ran",
        header=("Setting", "Value"),
        rows=tuple((name, str(value)) for name, value in rows),
        text_columns=2,
    )


def missing_sheet(evaluation: Evaluation) -> Sheet:
    """Which tasks were left out, and why."""
    return Sheet(
        title="Left out",
        header=("Task", "Dataset", "Reason"),
        rows=tuple((missing.task, missing.dataset, missing.reason) for missing in evaluation.missing),
        text_columns=3,
    )


def save(
    evaluation: Evaluation,
    folder: Path,
    *,
    before: Evaluation | None = None,
    trained: Evaluation | None = None,
    sheets: Sequence[Sheet] = (),
) -> None:
    """Write results.json (before.json, trained.json) and results.md, which also holds `sheets`."""
    for name, each in (("results", evaluation), ("before", before), ("trained", trained)):
        if each is not None:
            write_text(folder / f"{name}.json", each.to_json())
    parts = (
        results_sheet(evaluation, before, trained),
        *sheets,
        prompts_sheet(evaluation),
        setup_sheet(evaluation),
        missing_sheet(evaluation),
    )
    write_text(folder / "results.md", "\n".join(part.markdown() for part in parts if part.rows or part.notes))


def _named(evaluation: Evaluation) -> str:
    """The reasons, each with its tasks: results.md has a table of them."""
    by_reason: dict[str, list[str]] = {}
    for missing in evaluation.missing:
        by_reason.setdefault(missing.reason, []).append(missing.task)
    return "; ".join(f"{', '.join(tasks)} {reason}" for reason, tasks in by_reason.items())


def _shown_prefix(result: TaskScore, side: str) -> str:
    prefix = result.prefix.get(side)
    if prefix is not None:
        return json.dumps(prefix, ensure_ascii=False) if prefix else "(nothing)"
    return f"not stated; instruction: {result.prompts[side] or '(none)'}"


def _comparable(evaluation: Evaluation, before: Evaluation) -> dict[str, float]:
    """Earlier scores; other data or splits, another metric or instruction was another test: no "before"."""
    now = {result.task: _test(result) for result in evaluation.results}
    return {result.task: result.score for result in before.results if now.get(result.task) == _test(result)}


def _test(result: TaskScore) -> tuple[object, ...]:
    return result.metric, result.revision, sorted(result.splits), result.prompts


def _row(result: TaskScore, earlier: Iterable[Mapping[str, float]], has_bm25: bool) -> tuple[str, ...]:
    scores = [*(scores.get(result.task) for scores in earlier), result.score]
    cells = [result.task, result.metric_name, *map(percent, scores)]
    return (*cells, *([percent(result.bm25)] if has_bm25 else []))


def _mean_row(
    evaluation: Evaluation, earlier: Iterable[Mapping[str, float]], has_bm25: bool
) -> tuple[str, ...]:
    """The mean over tasks; never over part of them."""
    columns = [[scores.get(result.task) for result in evaluation.results] for scores in earlier]
    means = [*map(complete_mean, columns), complete_mean(list(evaluation.scores.values()))]
    return ("Mean", "", *map(percent, means), *([""] if has_bm25 else []))
