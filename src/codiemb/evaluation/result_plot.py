"""The picture of a table: a line for each mean or task, a point for each model; published ones in grey."""

from collections.abc import Mapping, Sequence
from pathlib import Path

_INCHES_PER_LINE = 0.42
_MARKERS = "oDs^vPX<>*"

Row = Sequence[float | None]


def plot_rows(
    lines: Sequence[str], rows: Mapping[str, Row], published: Mapping[str, Row], path: Path
) -> None:
    """Draw percentages.

    Args:
        lines: names from top to bottom.
        rows: a value for each line, by model; None where there is none.
        published: likewise, drawn in grey behind them, as one entry of the legend.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure  # half a second to import

    height = 1.4 + _INCHES_PER_LINE * len(lines) + 0.22 * len(rows)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    for number, row in enumerate(published.values()):
        label = f"published ({len(published)} models)" if number == 0 else None
        axes.plot(*_points(row), "|", color="0.55", markersize=13, label=label)
    for number, (name, row) in enumerate(rows.items()):
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(*_points(row), marker, color=f"C{number % 10}", markersize=6.5, alpha=0.85, label=name)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("main score (%)")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower left", fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def _points(row: Row) -> tuple[list[float], list[int]]:
    known = [(value, line) for line, value in enumerate(row) if value is not None]
    return [value for value, _ in known], [line for _, line in known]
