"""A text with its class: the class's name is the document, the other names are judged and wrong."""

from collections.abc import Iterator

from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judged, document_of, group, query_of


def _row(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """`labels` names every class; train on the result with `in_batch: false` (docs/data.md)."""
    label = str(fields.value("label"))
    if label not in recipe.labels:
        raise Problem(f"label {label!r} has no name; `labels` of the recipe has {', '.join(recipe.labels)}")
    judged = [Judged(document_of(str(name)), float(other == label)) for other, name in recipe.labels.items()]
    yield from group(query_of(fields.text("text"), recipe.instruction), judged, fields.origin, recipe.scorer)


FILES: Converts = {"records": (_row, {"text": "text", "label": "label"})}
