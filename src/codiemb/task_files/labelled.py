"""Texts with labels: classification and clustering."""

from collections.abc import Iterable

import pyarrow as pa

from codiemb.errors import UserError
from codiemb.raw_files.fields import Fields
from codiemb.raw_files.problems import Problem
from codiemb.task_files.found import Found
from codiemb.task_files.rows import Rows, each, refuse_one_value, visible


def read_labelled(found: Found, role: str) -> pa.Table:
    """text and label, which is a text in all rows or a whole number in all rows.

    Raises:
        UserError: a bad row, texts of one class only, or classes that differ in white space alone.
    """
    rows, kind, seen = Rows(), None, set[str | int]()

    def take(fields: Fields) -> tuple[str, str | int]:
        label, column = fields.value("label"), fields.column("label")
        if type(label) not in (str, int) or label == "" or (type(label) is int and abs(label) >= 2**63):
            raise Problem(f"{column} is {label!r:.40}; a label is a text or a whole number")
        if kind not in (None, type(label)):
            raise Problem(f"{column} is {label!r:.40}; labels are all texts or all whole numbers, not both")
        return visible(fields.text("text"), fields.column("text")), label

    for text, label in each(found.files[role], found.columns_of(role), take):
        if kind is None:
            kind = type(label)
            rows = Rows(text=pa.string(), label=pa.int64() if kind is int else pa.string())
        rows.add(text, label)
        seen.add(label)
    refuse_one_value(found.files[role][0], seen, "label")
    _refuse_look_alikes(found, role, seen)
    return rows.table()


def read_classification(found: Found) -> tuple[pa.Table, pa.Table]:
    """The texts that the classifier learns from, and those that are scored.

    Raises:
        UserError: as `read_labelled`, or none of the scored classes is learned.
    """
    train, test = read_labelled(found, "train"), read_labelled(found, "test")
    known, scored = (set(side["label"].unique().to_pylist()) for side in (train, test))
    _refuse_look_alikes(found, "test", known | scored)
    if not known & scored:
        raise UserError(
            f"{found.files['test'][0]}: none of its labels is in {found.files['train'][0].name}, which has "
            f"{', '.join(repr(label) for label in sorted(known)[:5])}, ...; a classifier can only find those"
        )
    return train, test


def _refuse_look_alikes(found: Found, role: str, labels: Iterable[str | int]) -> None:
    """Raises UserError for labels that nobody can tell apart by eye: to a score they are two classes."""
    by_words: dict[str, str | int] = {}
    for label in labels:
        other = by_words.setdefault(" ".join(str(label).split()), label)
        if other != label:
            both = " and ".join(sorted(map(repr, (other, label))))
            raise UserError(
                f"{found.files[role][0]}: the labels {both} differ in white space alone, and would be two "
                "classes; write them alike"
            )


def unlearned(train: pa.Table, test: pa.Table) -> str:
    """That some of the scored texts have a label that no classifier can learn; "" where none has."""
    known = set(train["label"].unique().to_pylist())
    lost = [label for label in test["label"].to_pylist() if label not in known]
    return (
        f"{len(lost)} of {len(test)} texts have a label that train has not (as {lost[0]!r}) and are wrong "
        "with any model: add such texts to train"
        if lost
        else ""
    )
