"""What is followed back through the steps: a query, a document, or a pair of them, each with a name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.layout import CORPUS, QRELS, QUERIES, tables_of


class Subject(NamedTuple):
    """Rows of a table: `ids` is an id, or those of a query and a document."""

    table: str
    ids: tuple[str, ...]


Subjects = Mapping[Subject, str]  # with what each is called in print


def pairs_of(query: str, documents: Mapping[str, str], folder: Path) -> dict[Subject, str]:
    """Judgements and candidates of a query with each document, in the tables that a folder has."""
    return {
        Subject(table, (query, document)): name
        for table in tables_of(folder)
        if table not in (QUERIES, CORPUS)
        for document, name in documents.items()
    }


def is_pair(subject: Subject) -> bool:
    """Whether it is of a table of pairs."""
    return len(subject.ids) > 1


def described(subject: Subject, row: Mapping[str, Any]) -> str:
    """A row in words, without its verdict."""
    if subject.table in (QUERIES, CORPUS):
        title = row.get("title")
        return shown(f"{title} {row['text']}" if title else row["text"])
    if subject.table == QRELS:
        return f"judged {row['grade']:g}, origin {row['origin']}"
    rank = "" if row["rank"] is None else f", rank {row['rank']:,}"
    score = "" if row["score"] is None else f", score {row['score']:.4g}"
    return f"{'candidate of' if rank else 'scored by'} {row['scorer']}{rank}{score}"


def shown(text: str | None, characters: int = 90) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join((text or "").split())
    return f'"{line if len(line) <= characters else line[:characters].rstrip() + " …"}"'


def of_source(subjects: Subjects, prefix: str) -> dict[Subject, str]:
    """Of several sources that became one: what is of that whose ids began so."""
    return {
        Subject(table, tuple(each.removeprefix(prefix) for each in ids)): name
        for (table, ids), name in subjects.items()
        if all(each.startswith(prefix) for each in ids)
    }


def tables_in(subjects: Subjects) -> Iterator[tuple[str, Sequence[Subject]]]:
    """By table, in the order of a source."""
    for table in sorted({subject.table for subject in subjects}, key=_place):
        yield table, [subject for subject in subjects if subject.table == table]


def _place(table: str) -> tuple[int, str]:
    single = (QUERIES, CORPUS, QRELS)
    return single.index(table) if table in single else len(single), table
