"""Texts with ids, and which documents answer which queries: retrieval and reranking."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from codiemb.errors import UserError
from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from codiemb.raw_files.rows import table_head
from codiemb.task_files.found import Found
from codiemb.task_files.rows import Rows, each, visible

_SHOWN = 5  # unknown ids in a message
_HIGHEST = 1_000_000  # grade: trec_eval counts every one up to the highest, and gives 0 where it has no room

Qrels = dict[str, dict[str, int]]  # query id -> document id -> grade


class Texts(NamedTuple):
    """Texts in mteb's layout: `id`, `text`, and `title` where one has any."""

    table: pa.Table
    ids: set[str]


class Judged(NamedTuple):
    """The data of a retrieval task; `candidates` of each query where they are reranked."""

    corpus: pa.Table
    queries: pa.Table
    qrels: Qrels
    candidates: dict[str, list[str]] | None


def read_retrieval(found: Found) -> Judged:
    """The data of a retrieval task, with candidates where it is a reranking task.

    Memory: the texts once, as Arrow, and their ids.

    Raises:
        UserError: a bad row, an id that is nowhere, or no query with a document that answers it.
    """
    corpus = read_texts(found.files["corpus"], found.columns_of("corpus"))
    queries = read_texts(found.files["queries"], found.columns_of("queries"))
    qrels = _read_qrels(found, queries.ids, corpus.ids)
    ranked = None
    if found.kind == "reranking":
        ranked = _read_candidates(found, queries.ids, corpus.ids)
        if missing := sorted(qrels.keys() - ranked.keys()):
            raise UserError(
                f"{found.files['top_ranked'][0]}: query {missing[0]!r} has no candidates to rerank; give it "
                "some, or take it out of the qrels"
            )
    return Judged(corpus.table, queries.table, qrels, ranked)


def unanswerable(qrels: Qrels) -> str:
    """That some queries have grades of 0 only, which mteb scores 0 with every model; "" where none has."""
    without = [query for query, grades in qrels.items() if not any(grade > 0 for grade in grades.values())]
    return (
        f"{len(without)} of {len(qrels)} queries have no relevant document (as {without[0]!r}) and score "
        "0 with any model: take them out of the qrels"
        if without
        else ""
    )


def read_texts(paths: Sequence[Path], columns: Mapping[str, str]) -> Texts:
    """A corpus, or queries, where `columns` knows no title.

    Raises:
        UserError: a bad row, an id that stands twice, or a text that is empty.
    """
    rows, ids = Rows(id=pa.string(), text=pa.string(), title=pa.string()), set[str]()
    has_titles = False

    def take(fields: Fields) -> tuple[str, str, str]:
        key = fields.id("id")
        if key in ids:
            raise Problem(f"the id {key!r} occurs twice; ids must be unique: rename or delete one")
        title = fields.maybe("title") if "title" in columns else ""
        text = "" if fields.value("text") is None else fields.text("text")
        visible(title + text, fields.column("text"))
        ids.add(key)
        return key, text, title

    for key, text, title in each(paths, columns, take):
        has_titles = has_titles or bool(title)
        rows.add(key, text, title)
    return Texts(rows.table(*(() if has_titles else ("title",))), ids)


def _read_qrels(found: Found, queries: Collection[str], corpus: Collection[str]) -> Qrels:
    qrels: Qrels = {}
    unknown = _Unknown(found, queries, corpus)

    def take(fields: Fields) -> None:
        query, document, grade = fields.id("query"), fields.id("document"), _grade(fields)
        unknown.look(fields.origin, query, document)
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            raise Problem(f"query {query!r} and document {document!r} are judged twice, with two grades")

    for path in found.files["qrels"]:
        for _ in each([path], found.columns_of("qrels"), take, _header(path)):
            pass
    unknown.check()
    if not any(grade > 0 for grades in qrels.values() for grade in grades.values()):
        raise UserError(
            f"{found.files['qrels'][0]}: no query has a relevant document (a grade above 0), so "
            "nothing can be scored: add judgements"
        )
    return qrels


def _read_candidates(found: Found, queries: Collection[str], corpus: Collection[str]) -> dict[str, list[str]]:
    ranked: dict[str, list[str]] = {}
    unknown = _Unknown(found, queries, corpus)

    def take(fields: Fields) -> None:
        query, documents = fields.id("query"), fields.ids("documents")
        if query in ranked:
            raise Problem(f"query {query!r} occurs twice; write all its candidates in one row")
        unknown.look(fields.origin, query, *documents)
        if documents:
            ranked[query] = documents

    for _ in each(found.files["top_ranked"], found.columns_of("top_ranked"), take):
        pass
    unknown.check()
    return ranked


class _Unknown:
    """Ids that are in no file: a wrong corpus is told by its first ones, and how many there are."""

    def __init__(self, found: Found, queries: Collection[str], corpus: Collection[str]) -> None:
        self._queries, self._corpus = queries, corpus
        self._names = {role: found.files[role][0].name for role in ("queries", "corpus")}
        self._first: list[str] = []
        self._count = 0
        self._where = ""

    def look(self, where: str, query: str, *documents: str) -> None:
        """Note those of one row."""
        if query not in self._queries:
            self._note(where, query, "queries")
        for document in documents:
            if document not in self._corpus:
                self._note(where, document, "corpus")

    def check(self) -> None:
        """Raises UserError where there was one."""
        if self._count:
            more = f" and {self._count - _SHOWN} more" if self._count > _SHOWN else ""
            raise UserError(
                f"{self._where}: unknown ids: {', '.join(self._first)}{more}; add these texts, or delete the "
                "rows that name them"
            )

    def _note(self, where: str, key: str, role: str) -> None:
        self._where = self._where or where
        self._count += 1
        if self._count <= _SHOWN:
            self._first.append(f"{key!r} is not in {self._names[role]}")


def _grade(fields: Fields) -> int:
    """trec_eval's grades are integers; 1.0 is one, 0.5 would silently become 0."""
    grade = fields.number("grade")
    if grade != int(grade):
        raise Problem(
            f"{fields.column('grade')} is {grade:g}, a fraction; grades are whole numbers (0: not relevant): "
            "multiply or round them"
        )
    if abs(grade) > _HIGHEST:
        raise Problem(
            f"{fields.column('grade')} is {grade:g}, and no grade is above {_HIGHEST:,}: use a smaller scale"
        )
    return int(grade)


def _header(path: Path) -> Sequence[str]:
    """The names of the fields of a table whose first row is a judgement already."""
    head = table_head(path)
    if not head or not _is_number(head[-1]):
        return ()
    return (
        ("query-id", "iteration", "corpus-id", "score")
        if len(head) == 4
        else ("query-id", "corpus-id", "score")
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
