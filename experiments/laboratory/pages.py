"""A question's page, from what its sweep has left; the conclusion is written by hand and stays."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from codiemb.tables import pipe_table, spread
from experiments.conclusion import kept_conclusion
from experiments.laboratory.material import OUTSIDE as OUTSIDE_TASKS
from experiments.laboratory.plots import plot_rows, plot_scatter
from experiments.laboratory.question import SWEEPS, Contrast, Question, less
from experiments.laboratory.questions import own_steps
from experiments.laboratory.results import (
    MIN_SEEDS,
    OUTSIDE,
    Difference,
    Run,
    by_arm,
    columns,
    difference,
    looks_taken,
    question_runs,
)
from experiments.steps import ROOT

FOLDER = Path(__file__).parent
_AT_ONCE = "95 % interval by Student's t, which takes 4.3 standard errors at three seeds and 2.8 at five"
_SEQUENTIAL = (
    "{sure:.3g} % interval by Student's t. Comparisons that the first seeds had not decided got "
    "further ones, up to seven (`--more-minutes`), until they were beyond noise or a difference of one point "
    "would have been seen, on IR and on STS; each of the {looks} looks has its share of 5 %"
)
_METRICS = "nDCG@10, MAP, Spearman of the cosine, AP; times 100"
_OUTSIDE = " `outside` is the mean of {tasks}, of text as no training file has it."


def write_page(question: Question, folder: Path = FOLDER, root: Path = ROOT) -> bool:
    """Write NAME.md and NAME.png; nothing while no arm has three seeds. Returns whether it did."""
    runs = question_runs(question, root)
    arms = {arm: of_arm for arm, of_arm in by_arm(runs).items() if len(of_arm) >= MIN_SEEDS}
    if question.scatter:
        arms = dict(sorted(arms.items(), key=lambda arm: fmean(run.scores["IR"] for run in arm[1])))
    if not arms:
        return False
    plot = plot_scatter if question.scatter else plot_rows
    plot(arms, question.material.groups, folder / f"{question.name}.png")
    page = folder / f"{question.name}.md"
    table = scores_table(arms, question.material.tasks)
    note = _OUTSIDE.format(tasks=" and ".join(OUTSIDE_TASKS)) if OUTSIDE in columns(arms) else ""
    sections = [
        f"# {question.name.replace('_', ' ').capitalize()}\n\n{question.text}",
        _commands(question),
        _clock(question, runs, arms),
        f"{table}\n({_METRICS}, {question.split} side; mean ± sd over seeds.{note})",
        f"![IR and STS by arm]({question.name}.png)",
        _differences(question, arms),
        *geometry_table(arms),
        kept_conclusion(page),
    ]
    page.write_text("\n\n".join(sections) + "\n", "utf-8")
    return True


def _commands(question: Question) -> str:
    lines = ["python " + shlex.join(step.command()) for step in own_steps(question)]
    return "\n".join([f"    python -m experiments.laboratory.run {question.name}", "", "that is", ""]) + (
        "\n" + "\n".join(f"    {line}" for line in lines)
    )


def _clock(question: Question, runs: Sequence[Run], arms: Mapping[str, Sequence[Run]]) -> str:
    shared = {arm for _, arm in question.borrowed}
    own = [run for run in runs if run.arm not in shared and run.seconds]
    took = [run.seconds for run in own]
    pages = sorted({f"{name}.md" for name, _ in question.borrowed})
    middle, total = f"{median(took):.0f} s (median)", f"{sum(took) / 60:.0f} min in sum"
    lines = [f"Wall-clock: {len(own)} runs of {middle}, {total}."]
    if elsewhere := sorted({run.accelerator for run in own} - {"cpu"}):
        count = sum(run.accelerator != "cpu" for run in own)
        lines.append(f"{count} of them with trainer.accelerator={','.join(elsewhere)}, several at once.")
    if shared:
        lines.append(f"From {', '.join(pages)}: {', '.join(f'`{arm}`' for arm in sorted(shared))}.")
    missing = [arm for arm in (*shared, *question.arms) if arm not in arms]
    if missing:
        lines.append(f"Fewer than three seeds, so left out: {', '.join(missing)}.")
    return " ".join(lines) + f" Run folders: `{SWEEPS}`."


def scores_table(arms: Mapping[str, Sequence[Run]], tasks: Sequence[str]) -> str:
    """One row an arm: every task, the means of IR and STS, and their mean; the mean outside of them."""
    means = columns(arms)
    rows = [["arm", "seeds", *tasks, *means]]
    for arm, runs in arms.items():
        cells = [spread([run.scores[column] for run in runs]) for column in (*tasks, *means)]
        rows.append([f"`{arm}`", str(len(runs)), *cells])
    return pipe_table(rows)


def _differences(question: Question, arms: Mapping[str, Sequence[Run]]) -> str:
    means, looks = columns(arms), looks_taken(question, arms)
    rows = [["difference", *means]]
    for contrast in contrasts(question, arms):
        cells = [difference(contrast, arms, column, looks) for column in means]
        found = [cell for cell in cells if cell is not None]
        if len(found) == len(cells):
            rows.append([contrast.label, *map(_cell, found)])
    interval = _AT_ONCE if looks == 1 else _SEQUENTIAL.format(sure=100 - 5 / looks, looks=looks)
    note = (
        "(Paired over seeds: mean ± standard error. * is beyond noise: 0 lies outside of the "
        f"{interval}. Of twenty comparisons without any effect, one gets a *. In brackets: about the true "
        "difference that four of five such experiments would find, at the spread seen; a smaller one they "
        "would mostly miss.)"
    )
    return f"{pipe_table(rows)}\n{note}"


def _cell(found: Difference) -> str:
    star = " *" if found.beyond_noise else ""
    return f"{found.mean:+.2f} ± {found.error:.2f}{star} ({found.smallest:.2f})"


def geometry_table(arms: Mapping[str, Sequence[Run]]) -> list[str]:
    """How documents of the last training batches lie, a row an arm; nothing for runs that did not log it."""
    columns = sorted(set.intersection(*(set(run.geometry) for runs in arms.values() for run in runs)))
    if not columns:
        return []
    rows = [["arm", *(column.replace("_", " ").replace("/", ": ") for column in columns)]]
    for arm, runs in arms.items():
        rows.append([f"`{arm}`", *(spread([run.geometry[column] for run in runs]) for column in columns)])
    return [f"{pipe_table(rows)}\n(Of the documents of the last batch of each task that was looked at.)"]


def contrasts(question: Question, arms: Mapping[str, Sequence[Run]]) -> Sequence[Contrast]:
    """The question's comparisons; of the fusion, everything against the soup."""
    if question.name != "fusion":
        return question.contrasts
    return [less(arm, "soup") for arm in arms if arm != "soup"]
