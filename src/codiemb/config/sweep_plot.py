"""The plot of a sweep: one line per group of jobs, its mean over tasks, a point per seed."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

_INCHES_PER_ROW = 0.35


def plot_groups(groups: list[dict[str, Any]], path: Path) -> None:
    """Draw the groups of `sweep.group_seeds`, first on top; bars are one standard deviation long."""
    from matplotlib.figure import Figure  # half a second to import, and only the end of a sweep needs it

    shown = [group for group in groups if group["means"]]
    figure = Figure(figsize=(8, 1.2 + _INCHES_PER_ROW * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, group in enumerate(shown):
        means = [100 * mean for mean in group["means"]]
        axes.plot(means, [row] * len(means), "o", color="0.6", markersize=4)
        deviation = stdev(means) if len(means) > 1 else 0.0
        axes.errorbar(fmean(means), row, xerr=deviation, fmt="D", color="C0", capsize=3, markersize=5)
    axes.set_yticks(range(len(shown)), [group["overrides"] for group in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("mean over tasks (%), ± 1 sd over seeds")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)
