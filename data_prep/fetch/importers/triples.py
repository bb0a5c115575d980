"""A corpus, queries, and lines of ids: query, positive, perhaps negative, as MS MARCO and cMedQA have."""

from collections.abc import Iterator

from codiemb.raw_files.fields import Fields
from data_prep.fetch.importers.tables import document, query
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judgement


def _triple(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    asked = fields.id("query")
    yield Judgement(asked, fields.id("positive"), 1.0, fields.origin)
    if fields.has("negative"):
        yield Judgement(asked, fields.id("negative"), 0.0, fields.origin)


FILES: Converts = {
    "corpus": (document, {"id": "id", "title": "title", "text": "text"}),
    "queries": (query, {"id": "id", "text": "text"}),
    "qrels": (_triple, {"query": "query", "positive": "positive"}),
}
