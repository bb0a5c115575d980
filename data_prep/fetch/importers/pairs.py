"""Columns as sentence-transformers trains on them: a pair, a triplet with any number of negatives, and a pair
with a score or a label."""

import re
from collections.abc import Iterator

from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judged, Query, document_of, group, query_of


def _row(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """`score` makes the grade of an sts pair; a `label` that `labels` does not name leaves the row out."""
    positive = document_of(fields.text("positive"))
    if recipe.task == "sts":
        judged = [Judged(positive, scaled(fields.number("score"), recipe.score_range))]
    elif recipe.labels:
        grade = recipe.labels.get(str(fields.value("label")))
        judged = [] if grade is None else [Judged(positive, float(grade))]
    else:
        _refuse_graded(fields)
        negatives = [document_of(text) for text in fields.texts("negatives")]
        judged = [Judged(positive, 1.0), *(Judged(document, 0.0) for document in negatives)]
    if judged:
        yield from group(_query(fields.text("query"), recipe), judged, fields.origin, recipe.scorer)


def _refuse_graded(fields: Fields) -> None:
    """A pair whose score or label nobody reads would become a positive, whatever it says."""
    if fields.has("score"):
        raise Problem("there is a score, and the task is ir: --task sts, with the --score-range that it has")
    if fields.has("label"):
        raise Problem("there is a label, and nothing says what it means: --labels 1=1,0=0 (LABEL=GRADE)")


def _query(text: str, recipe: Recipe) -> Query:
    """A query, parted from the instruction that it may carry."""
    if recipe.query_pattern and (found := re.fullmatch(recipe.query_pattern, text, re.DOTALL)):
        return query_of(found["text"], found["instruction"])
    return query_of(text, recipe.instruction)


def scaled(score: float, score_range: tuple[float, float]) -> float:
    """A score of a declared range, in [0, 1].

    Raises:
        Problem: it is outside.
    """
    low, high = score_range
    if not low <= score <= high:
        raise Problem(f"score is {score:g}, outside [{low:g}, {high:g}]; declare the range: score_range")
    return (score - low) / (high - low)


_COLUMNS = {
    "query": "anchor|query|question|sentence1|premise",
    "positive": "positive|answer|sentence2|hypothesis",
    "negatives": "negative*",
    "score": "score",
    "label": "label",
}
FILES: Converts = {"records": (_row, _COLUMNS)}
