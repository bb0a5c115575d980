"""Negatives that were mined while training: how they reach the loader's workers, in time and no later."""

import ctypes
import multiprocessing
import time
from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import get_worker_info

from codiemb.data.records import Record, Text
from codiemb.data.source import Source

PLACES = 1 << 20  # more texts than any record has
NONE = -1  # where a record has fewer negatives than others
_CLOSED = 1 << 62
_SECONDS_BETWEEN_LOOKS = 0.01


class MinedNegatives:
    """The negatives of each record in memory that the trainer and its loader's workers share.

    The plan says which global batch is trained at which step, so a worker that prepares one knows which
    search its negatives come from. One that is ahead of the trainer waits until that search is done. None can
    be behind: the trainer searches between two steps, when it has been given every batch before them.

    A text is a code: its record's number times 2^20, and its place among the record's texts, positives first.
    Memory: 8 bytes for each negative of a record, once on every rank.

    Args:
        sources: by their number in the plan; those that are mined for.
        num_negatives: of a record, at most.
        every_n_batches: global batches between two searches; before the first, the files' own.
    """

    def __init__(self, sources: Mapping[int, Source], num_negatives: int, every_n_batches: int) -> None:
        self.sources = sources
        self.num_negatives = num_negatives
        self.every_n_batches = every_n_batches
        self._codes = {
            number: multiprocessing.RawArray(ctypes.c_int64, len(source) * num_negatives)
            for number, source in sources.items()
        }
        self._published = multiprocessing.Value(ctypes.c_int64, 0)

    def publish(self, period: int, codes: Mapping[int, np.ndarray]) -> None:
        """Hand out the negatives of the batches from `period * every_n_batches` on.

        Args:
            period: 1 after the first search.
            codes: R x num_negatives of each source, NONE where there is none.
        """
        for number, code_RK in codes.items():
            self._table(number)[:] = code_RK
        self._published.value = period

    def close(self) -> None:
        """No search comes any more: workers that wait for one go on, and nobody takes what they have."""
        self._published.value = _CLOSED

    def replaced(
        self, records: Sequence[Record], *, source: int, indices: Sequence[int], batch: int
    ) -> list[Record]:
        """These records with the negatives of global batch number `batch`.

        Raises:
            RuntimeError: in the trainer itself, before the search.
        """
        period = batch // self.every_n_batches
        if period == 0 or source not in self.sources:
            return list(records)
        self._wait(period)
        code_BK = self._table(source)[list(indices)]
        has_BK = code_BK != NONE
        texts = iter(texts_at(self.sources[source], code_BK[has_BK]))
        return [
            record._replace(negatives=[next(texts) for _ in range(count)], negative_scores=[])
            for record, count in zip(records, has_BK.sum(axis=1).tolist(), strict=True)
        ]

    def _wait(self, period: int) -> None:
        while self._published.value < period:
            if get_worker_info() is None:
                raise RuntimeError(f"nobody has mined the negatives of period {period}")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if self._published.value not in (period, _CLOSED):
            raise RuntimeError(f"a batch of period {period} is late")

    def _table(self, number: int) -> np.ndarray:
        flat = np.ctypeslib.as_array(self._codes[number])
        return flat.reshape(len(self.sources[number]), self.num_negatives)


def texts_at(source: Source, code_C: np.ndarray) -> list[Text]:
    """The texts with these codes, each record read once."""
    number_C, place_C = np.divmod(code_C, PLACES)
    numbers, found_C = np.unique(number_C, return_inverse=True)
    records = [[*record.positives, *record.negatives] for record in source.take(numbers.tolist())]
    return [records[i][place] for i, place in zip(found_C.tolist(), place_C.tolist(), strict=True)]
