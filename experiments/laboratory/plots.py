"""The laboratory's plots: arms as rows in two panels, or IR against STS."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.laboratory.results import Run

Groups = Mapping[str, Sequence[str]]  # the tasks of IR and of STS
_DPI = 110


def plot_rows(arms: Mapping[str, Sequence[Run]], groups: Groups, path: Path) -> None:
    """A row for each arm, first on top: a grey point per seed, the mean and one standard deviation."""
    figure = Figure(figsize=(8, 1.0 + 0.28 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True)
    for axes, kind in zip(panels, groups, strict=True):
        for row, runs in enumerate(arms.values()):
            scores = [run.scores[kind] for run in runs]
            axes.plot(scores, [row] * len(scores), "o", color="0.7", markersize=3.5)
            axes.errorbar(
                fmean(scores), row, xerr=stdev(scores), fmt="D", color="C0", capsize=3, markersize=5
            )
        axes.set_title(f"{kind}: {' and '.join(groups[kind])}", fontsize=8)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(arms)), list(arms), fontsize=8)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.supxlabel("mean score (%), ± 1 sd over seeds", fontsize=8)
    figure.savefig(path, dpi=_DPI)


def plot_scatter(arms: Mapping[str, Sequence[Run]], groups: Groups, path: Path) -> None:
    """IR against STS: a point for each arm with a standard deviation both ways, in the order of the arms."""
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    means = [[fmean(run.scores[kind] for run in runs) for kind in groups] for runs in arms.values()]
    axes.plot(*zip(*means, strict=True), "-", color="0.8", zorder=0)
    for (arm, runs), (x, y) in zip(arms.items(), means, strict=True):
        _point(axes, arm, runs, (x, y), groups)
    labels = [f"{kind} (%): {' and '.join(tasks)}" for kind, tasks in groups.items()]
    axes.set_xlabel(labels[0], fontsize=8)
    axes.set_ylabel(labels[1], fontsize=8)
    axes.margins(0.22)  # room for the names
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=_DPI)


def _point(axes: Axes, arm: str, runs: Sequence[Run], at: tuple[float, float], groups: Groups) -> None:
    x, y = at
    sd_x, sd_y = (stdev(run.scores[kind] for run in runs) for kind in groups)
    axes.errorbar(x, y, xerr=sd_x, yerr=sd_y, fmt="D", capsize=3, markersize=5)
    axes.annotate(arm, (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8)
