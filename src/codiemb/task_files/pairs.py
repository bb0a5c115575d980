"""Pairs of texts with a score (sts) or with a label (pair classification)."""

import pyarrow as pa

from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from codiemb.task_files.found import Found
from codiemb.task_files.rows import Rows, each, refuse_one_value, visible

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def read_scored(found: Found) -> pa.Table:
    """sentence1, sentence2 and a score of the declared range; of any where none is declared.

    Raises:
        UserError: a bad row, or scores that are all equal: they have no order to find again.
    """
    rows = Rows(sentence1=pa.string(), sentence2=pa.string(), score=pa.float64())

    def take(fields: Fields) -> tuple[str, str, float]:
        score = fields.number("score")
        if found.score_range and not found.score_range[0] <= score <= found.score_range[1]:
            low, high = found.score_range
            raise Problem(
                f"{fields.column('score')} is {score:g}, outside [{low:g}, {high:g}]; correct it, or "
                "score_range in task.yaml"
            )
        return *_sentences(fields), score

    seen = set[float]()
    for first, second, score in each(found.files["pairs"], found.columns_of("pairs"), take):
        rows.add(first, second, score)
        if len(seen) < 2:
            seen.add(score)
    refuse_one_value(found.files["pairs"][0], seen, "score")
    return rows.table()


def read_labelled_pairs(found: Found) -> pa.Table:
    """sentence1, sentence2 and a label, 0 or 1.

    Raises:
        UserError: a bad row, or pairs of one label only.
    """
    rows, seen = Rows(sentence1=pa.string(), sentence2=pa.string(), label=pa.int64()), set[int]()

    def take(fields: Fields) -> tuple[str, str, int]:
        return *_sentences(fields), _label(fields)

    for first, second, label in each(found.files["pairs"], found.columns_of("pairs"), take):
        rows.add(first, second, label)
        seen.add(label)
    refuse_one_value(found.files["pairs"][0], seen, "label")
    return rows.table()


def _sentences(fields: Fields) -> tuple[str, str]:
    first, second = (visible(fields.text(name), fields.column(name)) for name in ("sentence1", "sentence2"))
    return first, second


def _label(fields: Fields) -> int:
    value, column = fields.value("label"), fields.column("label")
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise Problem(
            f"{column} is {value!r:.40}, and a label of a pair is 0 (different) or 1 (the same); if it is a "
            f"score, say so in task.yaml: kind: sts, columns: {{score: {column}}}"
        )
    return label
