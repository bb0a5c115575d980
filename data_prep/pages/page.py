"""A page of sections with tables and charts, as HTML and as Markdown; every text in it is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from codiemb.atomic import write_text
from codiemb.tables import pipe_table


@dataclass(frozen=True)
class Table:
    """Finished cells; the first `text_columns` are text, the others numbers; a cell may have a colour."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    colours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A heading with what follows it; of a query, the query is the heading."""

    heading: str
    note: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Markup] = ()
    is_query: bool = False


@dataclass(frozen=True)
class Page:
    """What is said first, by name, and the sections."""

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]


def write_page(page: Page, stem: Path) -> None:
    """Write `stem`.html and `stem`.md."""
    write_text(stem.with_suffix(".html"), as_html(page))
    write_text(stem.with_suffix(".md"), as_markdown(page))


def as_html(page: Page) -> str:
    """One file that needs no network, in the look of a run's report."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader("data_prep.pages", "."), PackageLoader("codiemb.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html").render(title=page.title, page=page)


def as_markdown(page: Page) -> str:
    """The same without charts; line ends in a cell are written \\n."""
    parts = [f"# {_line(page.title)}\n"]
    parts.append("".join(f"- {name}: {_line(value)}\n" for name, value in page.facts))
    for section in page.sections:
        parts.append(f"## {_line(section.heading)}\n")
        if section.note:
            parts.append(f"{_line(section.note)}\n")
        parts += [pipe_table([table.header, *table.rows], table.text_columns) for table in section.tables]
    return "\n".join(parts)


def _line(text: str) -> str:
    return " ".join(text.split())
