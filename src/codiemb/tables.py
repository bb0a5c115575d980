"""Tables in a terminal and in Markdown, and the means in their last rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich import box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text


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


@dataclass(frozen=True)
class Sheet:
    """Cells are finished strings. The first `text_columns` columns are text, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    def rich(self) -> Group:
        """For `rich.print` and `Console.print`."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for index, name in enumerate(self.header):
            is_text = index < self.text_columns
            justify: JustifyMethod = "left" if is_text else "right"
            table.add_column(name, justify=justify, no_wrap=not is_text, overflow="fold")  # no name is cut
        for row in self.rows:
            table.add_row(*map(Text, row))
        # Text, not str: rich would read the brackets of a name as markup
        notes = [Text(note) for note in self.notes]
        return Group(Text(self.title, style="bold"), *([table] if self.rows else []), *notes)

    def markdown(self) -> str:
        """A section with a pipe table and the notes below it."""
        parts = [f"## {self.title}"]
        if self.rows:
            parts.append(pipe_table((self.header, *self.rows), self.text_columns).rstrip())
        return "\n\n".join([*parts, *self.notes]) + "\n"


def percent(value: float | None) -> str:
    """A fraction as printed in embedding papers: 0.7123 -> "71.23"; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.2f}"
