"""Records of Tevatron and RLHN: `query_id`, `query`, and lists of passages with `docid`, `title`, `text`."""

from collections.abc import Iterator, Mapping
from typing import Any

from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Document, Item, Judged, Query, group

_PASSAGE = {name: name for name in ("docid", "title", "text")}


def _record(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    query = Query(fields.id("query_id"), fields.text("query"), recipe.instruction)
    positives = [Judged(_document(each, fields), 1.0) for each in fields.objects("positive_passages")]
    negatives = [Judged(_document(each, fields), 0.0) for each in fields.objects("negative_passages")]
    if not positives:
        raise Problem("positive_passages is missing or empty; a query needs at least one positive")
    yield from group(query, [*positives, *negatives], fields.origin, recipe.scorer)


def _document(passage: Mapping[str, Any], fields: Fields) -> Document:
    each = Fields(passage, _PASSAGE, fields.origin)
    return Document(each.id("docid"), each.maybe("title"), each.text("text"))


_COLUMNS = ("query_id", "query", "positive_passages", "negative_passages")
FILES: Converts = {"records": (_record, {name: name for name in _COLUMNS})}
