"""Two results compared: what they were made with, then the scores, and which difference is beyond noise.

Noise is that of the queries, pairs or texts that happen to be in the test (`paired`). It is not that of
another seed of training: that takes several runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from codiemb.atomic import write_text
from codiemb.evaluation import paired
from codiemb.evaluation.per_query import PerQuery
from codiemb.evaluation.result_files import Results, Scored, other_subsets
from codiemb.tables import Sheet, complete_mean, percent

RESAMPLES, SEED = 2000, 0
LEVEL = 0.05
_SAME = 1e-4  # of a score and the one from its parts, which mteb rounds to five digits
_FEW = 5
_NOT_RECORDED = "(not recorded)"


@dataclass(frozen=True)
class Setting:
    """One that differs."""

    name: str
    tasks: tuple[str, ...]  # empty: of all
    a: str
    b: str


@dataclass(frozen=True)
class Difference:
    """One task. Scores and differences are fractions; None where there is none."""

    task: str
    a: float | None
    b: float | None
    difference: float | None = None  # b - a; None where the two were scored on other data
    low: float | None = None  # 95 % interval
    high: float | None = None
    p_value: float | None = None
    adjusted: float | None = None  # by Holm, for the number of tasks
    why: str = ""  # no difference, or no interval

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.adjusted is None:
            return ""
        return "beyond noise" if self.adjusted < LEVEL else "within noise"


@dataclass(frozen=True)
class Comparison:
    """What differs between two results."""

    models: tuple[str, str]
    sources: tuple[str, str]
    settings: tuple[Setting, ...]
    tasks: tuple[Difference, ...]
    mean: Difference | None  # over all tasks; None where one is missing or on other data
    resamples: int = RESAMPLES
    seed: int = SEED

    def sheets(self) -> list[Sheet]:
        """The settings, then the scores."""
        return [self._settings_sheet(), self._task_sheet()]

    def _settings_sheet(self) -> Sheet:
        rows = tuple((each.name, _where(each, len(self.tasks)), each.a, each.b) for each in self.settings)
        sides = zip("AB", self.models, self.sources, strict=True)
        notes = tuple(f"{side}: {model}, {source}" for side, model, source in sides)
        notes += () if rows else ("No recorded setting differs.",)
        return Sheet("What differs", ("Setting", "Tasks", "A", "B"), rows, notes, text_columns=4)

    def _task_sheet(self) -> Sheet:
        entries = [*self.tasks, *([self.mean] if self.mean is not None else [])]
        header = ("Task", "A", "B", "B - A", "95 % interval", "p (Holm)", "")
        rows = tuple(map(_row, entries))
        shown = len(header) if any(entry.p_value is not None for entry in entries) else 4
        return Sheet("Scores", header[:shown], tuple(row[:shown] for row in rows), self._notes())

    def _notes(self) -> tuple[str, ...]:
        by_reason: dict[str, list[str]] = {}
        for entry in self.tasks:
            if entry.why:
                by_reason.setdefault(entry.why, []).append(entry.task)
        notes = [f"{_names(tasks, len(self.tasks))}: {why}." for why, tasks in by_reason.items()]
        if any(entry.p_value is not None for entry in self.tasks):
            notes.append(
                f"Intervals and p: paired bootstrap over queries, pairs, texts; {self.resamples} resamples, "
                f"seed {self.seed}. Each interval is of its task alone; p is corrected for the number of "
                f"tasks (Holm), and a difference is beyond noise where it is below {LEVEL}. Another training "
                "seed is another source of noise, which this does not see."
            )
        return tuple(notes)


def compare(a: Results, b: Results, *, resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
    """Settings and scores of all tasks that either has.

    Raises:
        UserError: a damaged file of per-query scores.
    """
    names = dict.fromkeys([*a.tasks, *a.left_out, *b.tasks, *b.left_out])
    drawn = {name: _difference(name, a, b, resamples, seed) for name in names}
    tasks = _adjusted([entry for entry, _ in drawn.values()])
    return Comparison(
        (a.model, b.model),
        (str(a.source), str(b.source)),
        tuple(_settings(a, b)),
        tuple(tasks),
        _mean(tasks, [draws for _, draws in drawn.values()]),
        resamples,
        seed,
    )


def save_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.md and comparison.json."""
    write_text(folder / "comparison.md", "\n".join(sheet.markdown() for sheet in comparison.sheets()))
    write_text(
        folder / "comparison.json", json.dumps(asdict(comparison), ensure_ascii=False, indent=2) + "\n"
    )


def _settings(a: Results, b: Results) -> list[Setting]:
    """Those of all tasks, then those by task, tasks with the same two values in one line."""
    found = [Setting(name, (), x, y) for name, x, y in _unequal(a.settings, b.settings)]
    by_value: dict[tuple[str, str, str], list[str]] = {}
    shared = [name for name in a.tasks if name in b.tasks]
    for task in shared:
        for key in _unequal(a.tasks[task].settings, b.tasks[task].settings):
            by_value.setdefault(key, []).append(task)
    return found + [
        Setting(name, () if tasks == shared else tuple(tasks), x, y)
        for (name, x, y), tasks in by_value.items()
    ]


def _unequal(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    pairs = {name: (a.get(name, _NOT_RECORDED), b.get(name, _NOT_RECORDED)) for name in [*a, *b]}
    return [(name, x, y) for name, (x, y) in pairs.items() if x != y]


def _difference(
    name: str, a: Results, b: Results, resamples: int, seed: int
) -> tuple[Difference, paired.Floats | None]:
    """One task, and the differences of its draws."""
    one, other = a.tasks.get(name), b.tasks.get(name)
    if one is None or other is None:
        sides = [
            f"{label} has no score" + (f" ({side.left_out[name]})" if name in side.left_out else "")
            for label, side, entry in (("A", a, one), ("B", b, other))
            if entry is None
        ]
        x, y = (None if entry is None else entry.score for entry in (one, other))
        return Difference(name, x, y, why=" and ".join(sides)), None
    if what := _other_test(one, other):
        return Difference(name, one.score, other.score, why=f"not compared: {what}"), None
    difference = other.score - one.score
    parts, why = _parts(name, a, b)
    if parts is None:
        return Difference(name, one.score, other.score, difference, why=why), None
    draws = paired.differences(*parts, resamples=resamples, seed=seed)
    low, high = np.quantile(draws, [0.025, 0.975])
    p_value = paired.p_value(draws)
    return Difference(name, one.score, other.score, difference, float(low), float(high), p_value), draws


def _other_test(a: Scored, b: Scored) -> str:
    """How the data or the metric differ; "" where they do not."""
    kinds = {
        "data of revision": (a.revision, b.revision),
        "splits": (", ".join(a.splits), ", ".join(b.splits)),
        "metric": (a.metric, b.metric),
    }
    if other_subsets(a, b):
        kinds["subsets"] = (", ".join(a.subsets), ", ".join(b.subsets))
    return "; ".join(f"{kind} {x} in A, {y} in B" for kind, (x, y) in kinds.items() if x != y)


def _parts(name: str, a: Results, b: Results) -> tuple[tuple[PerQuery, PerQuery] | None, str]:
    """What the two scores are computed from; or None and why there is no interval."""
    loaded = [side.per_query and PerQuery.load(side.per_query, name) for side in (a, b)]
    first, second = loaded
    if not first or not second:
        if a.tasks[name].type == "Clustering":
            return None, "no interval, its clusters are of all texts, and no part of the score is of one text"
        lacking = " and ".join(label for label, each in zip("AB", loaded, strict=True) if not each)
        return None, f"no interval, no per-query scores in {lacking}"
    for label, side, each in (("A", a, first), ("B", b, second)):
        stored = side.tasks[name].score
        if max(abs(each.score - stored), abs(paired.score(each) - stored)) > _SAME:
            return None, f"no interval, the per-query scores of {label} are those of another evaluation"
    if not paired.same_units(first, second):
        return None, "no interval, other queries, pairs or texts were scored"
    return (first, second), ""


def _adjusted(tasks: list[Difference]) -> list[Difference]:
    asked = {entry.task: entry.p_value for entry in tasks if entry.p_value is not None}
    adjusted = dict(zip(asked, paired.holm(list(asked.values())), strict=True))
    return [Difference(**{**asdict(entry), "adjusted": adjusted.get(entry.task)}) for entry in tasks]


def _mean(tasks: list[Difference], draws: list[paired.Floats | None]) -> Difference | None:
    """Over all tasks; with an interval where all have one."""
    a, b = complete_mean([entry.a for entry in tasks]), complete_mean([entry.b for entry in tasks])
    if len(tasks) < 2 or a is None or b is None or any(entry.difference is None for entry in tasks):
        return None
    known = [draw for draw in draws if draw is not None]
    if len(known) < len(tasks):
        return Difference("Mean", a, b, b - a)
    mean_R = np.mean(known, axis=0)
    low, high = np.quantile(mean_R, [0.025, 0.975])
    return Difference("Mean", a, b, b - a, float(low), float(high), paired.p_value(mean_R))


def _row(entry: Difference) -> tuple[str, ...]:
    interval = "–"
    if entry.low is not None and entry.high is not None:
        interval = f"{100 * entry.low:+.2f} to {100 * entry.high:+.2f}"
    p_value = entry.p_value if entry.adjusted is None else entry.adjusted
    return (
        entry.task,
        percent(entry.a),
        percent(entry.b),
        "–" if entry.difference is None else f"{100 * entry.difference:+.2f}",
        interval,
        "–" if p_value is None else f"{p_value:.3f}",
        entry.verdict,
    )


def _where(setting: Setting, num_tasks: int) -> str:
    return _names(setting.tasks, num_tasks) if setting.tasks else "all"


def _names(tasks: Sequence[str], num_tasks: int) -> str:
    """In full where they are few; comparison.json has them all."""
    if len(tasks) == num_tasks:
        return "all"
    return ", ".join(tasks) if len(tasks) <= _FEW else f"{len(tasks)} of {num_tasks} tasks"
