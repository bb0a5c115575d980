"""What an importer yields: rows of a source's tables, one at a time and in any order."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import xxhash


class Query(NamedTuple):
    """A text to search with, and the instruction that chooses its prompt ("" for none)."""

    id: str
    text: str
    instruction: str


class Document(NamedTuple):
    """A text to find."""

    id: str
    title: str
    text: str


class Judgement(NamedTuple):
    """How well a document answers a query: above 0 it does, at 0 it does not. `origin`: the raw file."""

    query: str
    document: str
    grade: float
    origin: str


class Scored(NamedTuple):
    """What a teacher said of a pair; `rank` from 1, None: nobody searched; `score`, None: nobody scored."""

    query: str
    document: str
    rank: int | None
    score: float | None
    scorer: str


Item = Query | Document | Judgement | Scored


class Judged(NamedTuple):
    """A document of one query with its grade, and a teacher's score where there is one."""

    document: Document
    grade: float
    score: float | None = None


def content_id(*parts: str) -> str:
    """The id of what has none: 128 bits of its content, so that equal texts are one document."""
    return xxhash.xxh3_128_hexdigest("\0".join(parts).encode())


def query_of(text: str, instruction: str) -> Query:
    """A query without an id of its own."""
    return Query(content_id(instruction, text), text, instruction)


def document_of(text: str, title: str = "") -> Document:
    """A document without an id of its own."""
    return Document(content_id(title, text), title, text)


def group(query: Query, judged: Iterable[Judged], origin: str, scorer: str) -> Iterator[Item]:
    """A query and its documents, as most files have them."""
    yield query
    for document, grade, score in judged:
        yield document
        yield Judgement(query.id, document.id, grade, origin)
        if score is not None:
            yield Scored(query.id, document.id, None, score, scorer)
