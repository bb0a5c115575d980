"""A corpus, queries and judgements in tables of ids, as T2Ranking, Multi-CPR and TREC have them."""

from collections.abc import Iterator

from codiemb.raw_files.fields import Fields
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Document, Item, Judgement, Query


def document(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """A document with its id."""
    yield Document(fields.id("id"), fields.maybe("title"), fields.text("text"))


def query(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """A query with its id."""
    yield Query(fields.id("id"), fields.text("text"), recipe.instruction)


def judgement(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """A grade, 1 where the table has none; `labels` may map grades to others."""
    grade = fields.number("grade") if fields.has("grade") else 1.0
    grade = float(recipe.labels.get(f"{grade:g}", grade))
    yield Judgement(fields.id("query"), fields.id("document"), grade, fields.origin)


FILES: Converts = {
    "corpus": (document, {"id": "id", "title": "title", "text": "text"}),
    "queries": (query, {"id": "id", "text": "text"}),
    "qrels": (judgement, {"query": "query", "document": "document", "grade": "grade"}),
}
