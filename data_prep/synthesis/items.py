"""From the fields of an answer to rows of a source: queries, documents, judgements and scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.fetch.rows import Item, Judgement, Scored, document_of, query_of
from data_prep.synthesis.answer import Asked, Graded, Rejected
from data_prep.synthesis.prompt import Prompt
from data_prep.synthesis.rows import Row

Fields = Mapping[str, Any]


def items_of(prompt: Prompt, row: Row, fields: Fields, instruction: str, name: str) -> list[Item]:
    """What a row becomes.

    Args:
        prompt: the recipe.
        row: that was read.
        fields: of the last answer.
        instruction: of the queries that are made.
        name: of the recipe: origin of judgements and scorer of candidates.

    Raises:
        Rejected: what was made equals what was read.
    """
    makers = {
        "query": _query,
        "paraphrases": _paraphrases,
        "hard_negatives": _hard_negatives,
        "graded_list": _graded_list,
        "graded_pairs": _graded_pairs,
        "example": _example,
    }
    items = list(makers[prompt.makes](prompt, row, fields, instruction, f"synthesise {name}"))
    if not items:
        raise Rejected("repeats what it was made from")
    return items


def _query(prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str) -> Iterator[Item]:
    if _is_read(fields["query"], row):
        return
    query = query_of(fields["query"], instruction)
    yield query
    yield from (Judgement(query.id, document, 1.0, origin) for document in row.documents)


def _paraphrases(prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str) -> Iterator[Item]:
    for text in fields["paraphrases"]:
        if not _is_read(text, row):
            query = query_of(text, row.instruction)
            yield query
            yield from (Judgement(query.id, document, 1.0, origin) for document in row.documents)


def _hard_negatives(
    prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str
) -> Iterator[Item]:
    """Candidates with a rank and no score: whether they are wrong is for relabel to say."""
    made = [document_of(text) for text in fields["hard_negatives"] if not _is_read(text, row)]
    for rank, document in enumerate(made, start=1):
        yield document
        yield Scored(row.query, document.id, rank, None, _scorer(origin))


def _graded_list(prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str) -> Iterator[Item]:
    """Right ones are judged so, the others are candidates, and all have a score in [0, 1]."""
    graded: list[Graded] = sorted(fields["documents"], key=lambda each: -each.grade)
    scale, rank = prompt.ask[-1].answer["documents"], 0
    for each in graded:
        if _is_read(each.text, row):
            continue
        document, score = document_of(each.text), _score(each, scale)
        is_right = each.grade >= prompt.relevant_from
        rank += not is_right
        yield document
        yield Scored(row.query, document.id, None if is_right else rank, score, _scorer(origin))
        if is_right:
            yield Judgement(row.query, document.id, 1.0, origin)


def _graded_pairs(prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str) -> Iterator[Item]:
    text = fields.get("sentence") or row.values.get("query") or row.values["passage"]
    query, scale = query_of(text, instruction), prompt.ask[-1].answer["pairs"]
    yield query
    for each in fields["pairs"]:
        document = document_of(each.text)
        yield document
        yield Judgement(query.id, document.id, _score(each, scale), origin)


def _example(prompt: Prompt, row: Row, fields: Fields, instruction: str, origin: str) -> Iterator[Item]:
    query, positive = query_of(fields["query"], instruction), document_of(fields["positive"])
    if _same(fields["query"], fields["positive"]):
        return
    yield from (query, positive, Judgement(query.id, positive.id, 1.0, origin))
    text = fields.get("hard_negative")
    if text and not _same(text, fields["positive"]) and not _same(text, fields["query"]):
        negative = document_of(text)
        yield negative
        yield Scored(query.id, negative.id, 1, None, _scorer(origin))


def _scorer(origin: str) -> str:
    return origin.partition(" ")[2]


def _score(each: Graded, scale: Asked) -> float:
    return round((each.grade - scale.lowest) / (scale.highest - scale.lowest), 6)


def _is_read(text: str, row: Row) -> bool:
    return any(_same(text, value) for value in row.values.values())


def _same(one: str, other: str) -> bool:
    return one.casefold().split() == other.casefold().split()
