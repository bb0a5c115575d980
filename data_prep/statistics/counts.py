"""What is counted of the records of one task in one source."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.statistics.distinct import Distinct

SIDES = ("query", "document")
KINDS = ("positive", "negative")


@dataclass
class Counts:
    """Of one task in one source; every Counter is by value.

    Memory: 8 bytes for each different query and document; the rest does not grow with the number of records.

    Attributes:
        records: how many.
        lengths: by side, in tokens or characters.
        documents: by kind, how many a record has.
        languages: by side.
        scores: by kind, to two decimals.
        texts: by side, their hashes.
        epoch_tokens: that an epoch of all records is expected to encode, under the plan.
    """

    records: int = 0
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: _counters(SIDES))
    documents: dict[str, Counter[int]] = field(default_factory=lambda: _counters(KINDS))
    languages: dict[str, Counter[str]] = field(default_factory=lambda: _counters(SIDES))
    scores: dict[str, Counter[float]] = field(default_factory=lambda: _counters(KINDS))
    texts: dict[str, Distinct] = field(default_factory=lambda: {side: Distinct() for side in SIDES})
    epoch_tokens: float = 0.0

    def merge(self, other: "Counts") -> None:
        """Add those of another file of the source."""
        self.records += other.records
        self.epoch_tokens += other.epoch_tokens
        for name in _COUNTERS:
            for key, counter in getattr(other, name).items():
                getattr(self, name)[key].update(counter)
        for side in SIDES:
            self.texts[side].merge(other.texts[side])


_COUNTERS = ("lengths", "documents", "languages", "scores")


def _counters(keys: Sequence[str]) -> dict[str, Counter[Any]]:
    return {key: Counter() for key in keys}


def save(path: Path, counts: dict[str, Counts]) -> None:
    """Write the counts of a file, by task."""
    arrays: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {}
    for task, each in counts.items():
        header[task] = {
            "records": each.records,
            "epoch_tokens": each.epoch_tokens,
            "added": {side: each.texts[side].added for side in SIDES},
            **{name: {k: list(c.items()) for k, c in getattr(each, name).items()} for name in _COUNTERS},
        }
        arrays |= {f"{task}.{side}": each.texts[side].values for side in SIDES}
    with path.open("wb") as file:
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, Counts]:
    """What `save` has written."""
    counts = {}
    with np.load(path) as arrays:
        for task, header in json.loads(arrays["header"].tobytes()).items():
            counters = {
                name: {key: Counter(dict(items)) for key, items in header[name].items()} for name in _COUNTERS
            }
            texts = {side: Distinct(arrays[f"{task}.{side}"], header["added"][side]) for side in SIDES}
            counts[task] = Counts(
                header["records"], texts=texts, epoch_tokens=header["epoch_tokens"], **counters
            )
    return counts


def quantile(counter: Counter[int], share: float) -> int:
    """The least value that at least this share of all does not exceed; 0 of nothing."""
    left = share * counter.total()
    for value in sorted(counter):
        left -= counter[value]
        if left <= 1e-9:
            return value
    return max(counter, default=0)


def mean(counter: Counter[Any]) -> float:
    """Of all values; 0 of nothing."""
    total = counter.total()
    return sum(value * count for value, count in counter.items()) / total if total else 0.0


def share_above(counter: Counter[int], limit: int) -> float:
    """Of the values that are greater."""
    total = counter.total()
    return sum(count for value, count in counter.items() if value > limit) / total if total else 0.0
