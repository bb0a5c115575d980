"""Records of the released CoDiEmb trainer, and ours (docs/data.md): task_type, query, positives, ..."""

import json
import math
from collections.abc import Iterator

from codiemb.data.records import KNOWN_TASKS, Record, parse_record, read_fields
from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from data_prep.fetch.raw import Converts
from data_prep.fetch.recipe import Recipe
from data_prep.fetch.rows import Item, Judged, document_of, group, query_of


def _record(fields: Fields, recipe: Recipe) -> Iterator[Item]:
    """A record; its own instruction goes before the recipe's. A teacher's scores become candidates."""
    task = fields.maybe("task_type")
    if task in KNOWN_TASKS and task != recipe.task:
        raise Problem(
            f"task_type is {task!r}, and the recipe's task {recipe.task!r}: one source has one task"
        )
    record = parse_record(read_fields(json.dumps(fields.row).encode()), recipe.score_range)
    query = query_of(record.query.text, record.query.instruction or recipe.instruction)
    yield from group(query, _judged(record), fields.origin, recipe.scorer)


def _judged(record: Record) -> Iterator[Judged]:
    sides = (
        (record.positives, 1.0, record.positive_scores),
        (record.negatives, 0.0, record.negative_scores),
    )
    for texts, grade, scores in sides:
        for (_, text), score in zip(texts, scores or [math.nan] * len(texts), strict=True):
            if record.task == "sts":
                yield Judged(document_of(text), score)
            else:
                yield Judged(document_of(text), grade, None if math.isnan(score) else score)


FILES: Converts = {"records": (_record, {})}
