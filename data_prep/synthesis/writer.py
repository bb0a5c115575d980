"""The tables of the result: what was read, and what was made added to it; or what was made, alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from codiemb.atomic import write_text
from codiemb.errors import UserError
from data_prep.blocks import TableWriter, blocks, num_rows
from data_prep.fetch.problems import BadRows
from data_prep.fetch.rows import Document, Item, Judgement, Query
from data_prep.fetch.sink import GIVEN, Known, Sink
from data_prep.layout import CANDIDATES, CORPUS, QRELS, QUERIES, SOURCE, read_source, schema_of, tables_of
from data_prep.step import join

REJECTS = "rejects.jsonl"


class Made:
    """What a run makes, while it is written.

    Attributes:
        rejected: how many answers, by the first words of the reason.
    """

    def __init__(self, sink: Sink, rejects: TextIO) -> None:
        self._sink, self._rejects = sink, rejects
        self.rejected: dict[str, int] = {}
        self.rows = 0

    def add(self, items: list[Item], label: str) -> None:
        """Of one row."""
        self.rows += 1
        for item in items:
            self._sink.add((label, item))

    def reject(self, label: str, question: str, reason: str, text: str) -> None:
        """An answer that is of no use, kept with its reason."""
        kind = reason.partition(":")[0]
        self.rejected[kind] = self.rejected.get(kind, 0) + 1
        line = {"row": label, "question": question, "reason": reason, "answer": text}
        self._rejects.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def making(folder: Path, source: Path | None, language: str | None) -> Iterator[Made]:
    """Tables of what is made in a folder; nothing that the source has already is written again.

    Args:
        folder: of the new rows alone, empty.
        source: whose rows are known; None for a source of its own.
        language: of all texts that are made; None where they have several.
    """
    known = Known()
    if source is not None:
        _learn(known, source)
    folder.mkdir(parents=True)
    with (
        (folder / REJECTS).open("w", encoding="utf-8", newline="\n") as rejects,
        Sink(folder, known, BadRows(), language) as sink,
    ):
        yield Made(sink, rejects)


def put_together(made: Path, source: Path | None, out: Path, scorer: str) -> None:
    """The tables of the result."""
    for name in (QUERIES, CORPUS, QRELS):
        old = [source / name] if source is not None else []
        join([*old, made / name], out / name, schema_of(name))
    if num_rows(made / GIVEN):
        table = f"{CANDIDATES}/{scorer}.parquet"
        join([made / GIVEN], out / table, schema_of(table))
    if (made / REJECTS).stat().st_size:
        (made / REJECTS).rename(out / REJECTS)


def refuse_taken(source: Path, scorer: str) -> None:
    """That candidates of this name are there.

    Raises:
        UserError: they are.
    """
    if (source / CANDIDATES / f"{scorer}.parquet").is_file():
        raise UserError(
            f"{source} has candidates of the name {scorer!r}, which these would replace; another: --name X"
        )


def empty_others(read: list[Path], out: Path) -> None:
    """Tables of a source that was only read: what the result takes over must not speak of its rows."""
    for source in read:
        for name in tables_of(source):
            if not (out / name).exists():
                with TableWriter(out / name, schema_of(name)):
                    pass


def describe_source(out: Path, read: list[Path], about: dict[str, Any]) -> None:
    """source.json of a source that was made."""
    if read:
        about = {**about, "licence": read_source(read[0]).get("licence")}
    write_text(out / SOURCE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def _learn(known: Known, source: Path) -> None:
    """What a source has; its ids are of any origin, and texts that are null are empty here."""
    for block in blocks(source / QUERIES, Query._fields):
        known.queries.add([Query(*row) for row in _rows(block, Query)])
    for block in blocks(source / CORPUS, Document._fields):
        known.documents.add([Document(*row) for row in _rows(block, Document)])
    for block in blocks(source / QRELS, Judgement._fields):
        known.judge([Judgement(*row) for row in _rows(block, Judgement)])


def _rows(block: Any, kind: Any) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401  a table, a NamedTuple's class
    columns = [block[name].to_pylist() for name in kind._fields]
    for row in zip(*columns, strict=True):
        yield tuple("" if value is None else value for value in row)
