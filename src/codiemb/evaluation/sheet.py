"""A small table with notes that can show itself in a terminal and as Markdown."""

from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from codiemb.tables import pipe_table


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
            table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
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
