"""Tables in Markdown, for everything here that leaves one, and the means in their last rows."""

from collections.abc import Sequence
from statistics import fmean, stdev


def pipe_table(table: Sequence[Sequence[str]], text_columns: int = 1, *, aligned: bool = False) -> str:
    """A pipe table, with a line end after each row.

    Args:
        table: finished cells; the first row is the header.
        text_columns: how many columns are text, on the left; the others are numbers, on the right.
        aligned: pad the cells, so that it also reads well in a terminal.
    """
    rows = [[cell.replace("|", r"\|").replace("\n", r"\n") for cell in row] for row in table]
    rule = ["---" if column < text_columns else "---:" for column in range(len(rows[0]))]
    if aligned:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        rows = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
        rule = ["-" * width for width in widths]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:]))


def spread(values: Sequence[float]) -> str:
    """Mean, with the sample standard deviation where there are several values."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{deviation}"


def complete_mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing, for a mean over part of the tasks compares to nothing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
