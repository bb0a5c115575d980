"""Items into tables: a document or a query once, and no judgement of what is not there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.blocks import TableWriter, blocks
from data_prep.fetch.problems import BadRows
from data_prep.fetch.raw import Located
from data_prep.fetch.rows import Document, Item, Judgement, Query, Scored
from data_prep.fetch.seen import Seen, keys_of
from data_prep.layout import CORPUS, QRELS, QUERIES, document_text, schema_of

GIVEN = "candidates/given.parquet"
TABLES = (QUERIES, CORPUS, QRELS, GIVEN)
_BLOCK = 8192  # items at hand


class Known:
    """What earlier rows of a source have brought, as keys: 16 bytes for a text, 8 for a judgement or a score.

    What is added is answered row by row: None if it is new, "" if it is there already, else what is wrong.
    """

    def __init__(self) -> None:
        self.queries, self.documents = _Texts("query"), _Texts("document")
        self._judgements, self._scores = Seen(), Seen()

    def judge(self, rows: Sequence[Judgement]) -> list[str | None]:
        """Judgements; each must speak of a query and of a document that are there."""
        asked, found = (
            self.queries.has([row.query for row in rows]),
            self.documents.has([row.document for row in rows]),
        )
        new = self._judgements.add(keys_of([(row.query, row.document, str(row.grade)) for row in rows]))
        return [
            f"no row has the query {row.query!r}" if not has_query
            else f"no row has the document {row.document!r}" if not has_document
            else None if is_new else ""
            for row, has_query, has_document, is_new in zip(rows, asked, found, new, strict=True)
        ]  # fmt: skip

    def score(self, rows: Sequence[Scored]) -> list[str | None]:
        """A teacher's scores; the first of a pair counts."""
        new = self._scores.add(keys_of([(row.query, row.document, row.scorer) for row in rows]))
        return [None if is_new else "" for is_new in new]

    def restore(self, part: Path) -> None:
        """Learn what the tables of a finished piece hold."""
        for row in _rows(part / QUERIES, Query):
            self.queries.add(row)
        for row in _rows(part / CORPUS, Document):
            self.documents.add(row)
        for row in _rows(part / QRELS, Judgement):
            self.judge(row)
        for row in _rows(part / GIVEN, Scored):
            self.score(row)


class _Texts:
    """Texts by id, and that no id has two."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._ids, self._texts = Seen(), Seen()

    def has(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        return self._ids.has(keys_of([(name,) for name in ids]))

    def add(self, items: Sequence[Any]) -> list[str | None]:
        text_is_new = self._texts.add(keys_of(items))
        id_is_new = self._ids.add(keys_of([(item.id,) for item in items]))
        return [
            None if new else f"{self._what} {item.id!r} has another text in an earlier row" if other else ""
            for item, new, other in zip(items, id_is_new, text_is_new, strict=True)
        ]


def _rows(path: Path, kind: type[Any]) -> Iterator[list[Any]]:
    """The rows of a table, a block at a time."""
    for block in blocks(path, kind._fields):
        columns = block.select(kind._fields).to_pydict().values()
        yield [kind(*row) for row in zip(*columns, strict=True)]


class Sink:
    """Write items to the tables of a folder, once each; what is wrong is added to `bad`.

    Use it as a context: without an error inside, the tables are whole at the end.
    """

    def __init__(self, folder: Path, known: Known, bad: BadRows, language: str | None) -> None:
        self._folder, self._known, self._bad, self._language = folder, known, bad, language
        self._writers: dict[str, TableWriter] = {}
        self._stack = ExitStack()
        self._waiting: list[Located] = []

    def __enter__(self) -> "Sink":
        for name in TABLES:
            self._writers[name] = self._stack.enter_context(TableWriter(self._folder / name, schema_of(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._stack.__exit__(kind, error, trace)

    def add(self, located: Located) -> None:
        """One more item, with its place."""
        self._waiting.append(located)
        if len(self._waiting) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        """Texts first: a judgement may stand beside the document it speaks of."""
        waiting, self._waiting = self._waiting, []
        queries = [(where, item) for where, item in waiting if isinstance(item, Query)]
        self._write(QUERIES, queries, self._known.queries.add([item for _, item in queries]))
        documents = [(where, item) for where, item in waiting if isinstance(item, Document)]
        self._write(CORPUS, documents, self._known.documents.add([item for _, item in documents]))
        judgements = [(where, item) for where, item in waiting if isinstance(item, Judgement)]
        self._write(QRELS, judgements, self._known.judge([item for _, item in judgements]))
        scores = [(where, item) for where, item in waiting if isinstance(item, Scored)]
        self._write(GIVEN, scores, self._known.score([item for _, item in scores]))

    def _write(self, name: str, rows: Sequence[Located], verdicts: Sequence[str | None]) -> None:
        for (where, _), verdict in zip(rows, verdicts, strict=True):
            if verdict:
                self._bad.add(where, verdict)
        new = [item for (_, item), verdict in zip(rows, verdicts, strict=True) if verdict is None]
        if new:
            columns = self._columns(new)
            schema = pa.schema([schema_of(name).field(column) for column in columns])
            self._writers[name].write(pa.table(columns, schema=schema))

    def _columns(self, items: Sequence[Item]) -> dict[str, Sequence[Any]]:
        """Items of one kind as columns, with those that only the source as a whole can fill."""
        columns: dict[str, Sequence[Any]] = dict(zip(items[0]._fields, zip(*items, strict=True), strict=True))
        if isinstance(items[0], Query | Document):
            columns["lang"] = [self._language] * len(items)
        if isinstance(items[0], Document):
            columns["hash"] = _hashes(columns["title"], columns["text"])
        return columns


def _hashes(titles: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Of documents, as the trainer compares them."""
    # here, for it brings torch and transformers: 5 s that the error of a hub out of reach need not wait for
    from codiemb.data import content_hash

    return [content_hash(document_text(title, text)) for title, text in zip(titles, texts, strict=True)]
