"""The records that data preparation writes: fields in one order, texts as the trainer reads them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text

Record = dict[str, Any]


def retrieval(
    instruction: str,
    query: str,
    positives: Sequence[str],
    negatives: Sequence[str] | None = None,
    *,
    scored: bool = False,
) -> Record:
    """An IR record; documents carry no instruction. `scored` adds the 1 and 0 of the released format."""
    record: Record = {
        "task_type": "ir",
        "query": [instruction, "", query],
        "positives": [["", "", text] for text in positives],
    }
    if negatives is not None:
        record["negatives"] = [["", "", text] for text in negatives]
    if scored:
        record["positive_scores"] = [1.0] * len(positives)
        record["negative_scores"] = [0.0] * len(negatives or ())
    return record


def scored_pair(instruction: str, first: str, second: str, score: float) -> Record:
    """An STS record: one pair, with the instruction on both sides."""
    return {
        "task_type": "sts",
        "query": [instruction, "", first],
        "positives": [[instruction, "", second]],
        "negatives": [],
        "positive_scores": [score],
        "negative_scores": [],
    }


def raw_text(text: str) -> Record:
    """A text for the language-model task."""
    return {"task_type": "lm", "text": text}


def texts_of(record: Record) -> list[str]:
    """Every text of a record, without its instructions."""
    if "text" in record:
        return [record["text"]]
    return [triple[2] for triple in (record["query"], *record["positives"], *record.get("negatives", []))]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One object a line, whole or not at all; texts stay readable (no \\u escapes)."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
