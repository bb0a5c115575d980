"""Records of FlagEmbedding: `query`, lists `pos` and `neg` with `pos_scores` and `neg_scores`, `prompt`."""

from collections.abc import Iterator

from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judged, document_of, group, query_of


def _record(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """`prompt` is the query's instruction. `pos` and its score may stand alone, without a list."""
    query = query_of(fields.text("query"), fields.maybe("prompt") or recipe.instruction)
    positives, negatives = fields.texts("pos"), fields.texts("neg")
    if not positives:
        raise Problem("pos is missing or empty; a query needs at least one positive")
    graded = [
        (positives, 1.0, fields.numbers("pos_scores", len(positives))),
        (negatives, 0.0, fields.numbers("neg_scores", len(negatives))),
    ]
    judged = [
        Judged(document_of(text), grade, score)
        for texts, grade, scores in graded
        for text, score in zip(texts, scores, strict=True)
    ]
    yield from group(query, judged, fields.origin, recipe.scorer)


_COLUMNS = ("query", "pos", "neg", "pos_scores", "neg_scores", "prompt")
FILES: Converts = {"records": (_record, {name: name for name in _COLUMNS})}
