"""The page on what was found: how much of which task, and the words that two texts have in common."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.pages.page import Page, Section, Table

_SHOWN = 200  # rows with their evidence; all of them are in contamination.parquet
_CHARACTERS = 240


def contamination_page(
    name: str, checked: Sequence[Mapping[str, Any]], evidence: Sequence[Mapping[str, Any]]
) -> Page:
    """What a source holds of the test side.

    Args:
        name: of the source.
        checked: name, splits and number of texts of each task.
        evidence: rows of contamination.parquet.
    """
    flagged = Counter(row["table"].removesuffix(".parquet") for row in evidence)
    facts = [
        ("Source", name),
        ("Tasks", f"{len(checked):,}"),
        ("Queries marked", f"{flagged['queries']:,}"),
        ("Documents marked", f"{flagged['corpus']:,}"),
    ]
    return Page(f"Test texts in {name}", facts, [_by_task(checked, evidence), *_evidence(evidence)])


def _by_task(checked: Sequence[Mapping[str, Any]], evidence: Sequence[Mapping[str, Any]]) -> Section:
    reasons = list(dict.fromkeys(row["reason"] for row in evidence))
    count = Counter((row["task"], row["reason"]) for row in evidence)
    rows = [
        (
            task["name"],
            ", ".join(task["splits"]) or "all rows",
            f"{task['texts']:,}",
            *(f"{count[task['name'], reason]:,}" for reason in reasons),
        )
        for task in checked
    ]
    note = "Rows of the source by the task whose text they hold; a row counts once, for its best match."
    return Section("By task", note, [Table(("Task", "Splits", "Test texts", *reasons), rows, 2)])


def _evidence(evidence: Sequence[Mapping[str, Any]]) -> list[Section]:
    shown = sorted(evidence, key=lambda row: (row["reason"], row["share"], row["table"], row["id"]))[:_SHOWN]
    rows = [
        (
            f"{row['table'].removesuffix('.parquet')} {row['id']}",
            f"{row['task']} {row['side']} {row['test']}",
            row["reason"],
            _cut(row["span"]),
            _cut(row["test_text"]),
            f"{row['share']:.2f}",
        )
        for row in shown
    ]
    note = (
        f"{len(shown):,} of {len(evidence):,}, the least certain first: look at these before you believe the "
        "numbers. In common is the longest run of words that stands in both."
    )
    header = ("Row", "Test text", "Found by", "In common", "Text of the test side", "Share")
    return [Section("Evidence", note, [Table(header, rows, 5)])] if rows else []


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]} ..."
