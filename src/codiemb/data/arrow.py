"""Write one task's records to an Arrow file, in blocks, and count what a run must know of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from codiemb.data.records import Record, Text

_ROWS_PER_WRITE = 2_000
_CHARACTERS_PER_WRITE = 2**25  # a column of a block may hold 2 GiB
_SUMS = ("records", "with_negatives", "scored_lists", "scored_pairs")
_NUM_LONGEST = 8  # instructions remembered of each side of a task
_PAIR = pa.list_(pa.string())  # [instruction, text]
_SCHEMA = pa.schema(
    [
        ("query", _PAIR),
        ("positives", pa.list_(_PAIR)),
        ("negatives", pa.list_(_PAIR)),
        ("positive_scores", pa.list_(pa.float64())),
        ("negative_scores", pa.list_(pa.float64())),
    ]
)


class TaskWriter:
    """Arrow stream of one task's records, written in blocks."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.ipc.new_stream(str(path), _SCHEMA)
        self._block: list[dict[str, Any]] = []
        self._characters = 0
        self._longest: tuple[set[str], set[str]] = (set(), set())  # instructions of queries, of documents
        self._with_negatives = 0
        self._most_documents = 0
        self._lowest, self._highest = math.inf, -math.inf  # scores
        self._scored_lists = self._scored_pairs = 0
        self.count = 0

    def add(self, record: Record) -> None:
        """Write a record, in time."""
        row = record._asdict()
        del row["task"]
        self._block.append(row)
        self.count += 1
        documents = [*record.positives, *record.negatives]
        self._characters += sum(len(text) for _, text in (record.query, *documents))
        for longest, texts in zip(self._longest, ([record.query], documents), strict=True):
            _keep_longest(longest, texts)
        self._with_negatives += bool(record.negatives)
        self._most_documents = max(self._most_documents, len(documents))
        self._count_scores(record)
        if len(self._block) == _ROWS_PER_WRITE or self._characters >= _CHARACTERS_PER_WRITE:
            self._flush()

    def about(self) -> dict[str, Any]:
        """Counts of what was written.

        `records`, and those `with_negatives`; the `most_documents` of one; the range of the `scores`, null
        without any; how many records are `scored_lists`, of two scored documents or more, and `scored_pairs`,
        with a scored positive and a scored negative; and the `longest_instructions` of queries and of
        documents, the longest first.
        """
        return {
            "records": self.count,
            "with_negatives": self._with_negatives,
            "most_documents": self._most_documents,
            "scores": [self._lowest, self._highest] if self._lowest <= self._highest else None,
            "scored_lists": self._scored_lists,
            "scored_pairs": self._scored_pairs,
            "longest_instructions": [sorted(texts, key=_length, reverse=True) for texts in self._longest],
        }

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._stream.close()

    def _count_scores(self, record: Record) -> None:
        positive, negative = (
            [score for score in scores if not math.isnan(score)]
            for scores in (record.positive_scores, record.negative_scores)
        )
        self._scored_lists += len(positive) + len(negative) >= 2
        self._scored_pairs += bool(positive and negative)
        for score in (*positive, *negative):
            self._lowest, self._highest = min(self._lowest, score), max(self._highest, score)

    def _flush(self) -> None:
        if self._block:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._block, schema=_SCHEMA))
            self._block, self._characters = [], 0


def _keep_longest(longest: set[str], texts: Sequence[Text]) -> None:
    """Add the texts' instructions to the longest ones."""
    for instruction, _ in texts:
        if instruction not in longest:
            longest.add(instruction)
            if len(longest) > _NUM_LONGEST:
                longest.remove(min(longest, key=_length))


def _length(text: str) -> tuple[int, str]:
    """Of two texts of one length the same one is longer in every process; a set has no order."""
    return len(text), text


def added(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts (`TaskWriter.about`) of several files as of one."""
    scores = [score for about in abouts for score in about["scores"] or ()]
    longest = [
        set[str]().union(*texts) for texts in zip(*(a["longest_instructions"] for a in abouts), strict=True)
    ]
    return {
        **{key: sum(about[key] for about in abouts) for key in _SUMS},
        "most_documents": max(about["most_documents"] for about in abouts),
        "scores": [min(scores), max(scores)] if scores else None,
        "longest_instructions": [
            sorted(texts, key=_length, reverse=True)[:_NUM_LONGEST] for texts in longest
        ],
    }
