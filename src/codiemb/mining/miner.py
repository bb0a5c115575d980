"""Searches whole sources with an encoder: embed what they hold, and choose every record's negatives anew."""

import logging
from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Float32, Int64

from codiemb.data.mined import NONE
from codiemb.data.source import Source
from codiemb.mining.known import KnownPairs
from codiemb.mining.negatives import Negatives, mine, own
from codiemb.mining.pool import Pool
from codiemb.mining.spec import RefreshSpec
from codiemb.progress import Progress
from codiemb.text_encoder import TextEncoder

log = logging.getLogger(__name__)
# codes of negatives, as MinedNegatives has them, and the score of each in the search that it came with
Table = tuple[Int64[np.ndarray, "R K"], Float32[np.ndarray, "R K"]]
_TEXTS = 32_768  # encoded together: enough for long runs of equal lengths, on every rank
_SECONDS = 10.0  # between two lines of progress


class Miner:
    """What is known of the sources, read once: their distinct texts, and what answers which query.

    Memory: a search holds the vectors of one source, 4 bytes for each number of them: its queries and its
    distinct texts.

    Args:
        sources: by their number in the plan.
        spec: the rule and its limits.
        device: where matrix products run.
    """

    def __init__(self, sources: Mapping[int, Source], spec: RefreshSpec, device: str = "cpu") -> None:
        self._sources, self._spec, self._device = sources, spec, device
        self._pools = {number: Pool(source) for number, source in sources.items()}
        self._known = _known(list(self._pools.values()))

    def queries(self, number: int, encoder: TextEncoder) -> Float32[np.ndarray, "R D"]:
        """The vectors of a source's queries."""
        source = self._sources[number]
        progress = self._progress(number, "queries are encoded", len(source))
        parts = []
        for start in range(0, len(source), _TEXTS):
            records = source.take(range(start, min(start + _TEXTS, len(source))))
            instruction_r = np.array([record.query.instruction for record in records], dtype=object)
            part_rD: np.ndarray | None = None
            for instruction in dict.fromkeys(instruction_r.tolist()):  # an encoder takes one at a time
                rows = np.flatnonzero(instruction_r == instruction)
                texts = [records[row].query.text for row in rows.tolist()]
                found = encoder.encode(texts, instruction=instruction, side="query")
                part_rD = np.empty((len(records), found.shape[1]), np.float32) if part_rD is None else part_rD
                part_rD[rows] = found
            assert part_rD is not None
            parts.append(part_rD)
            progress.advance(len(records))
        return np.concatenate(parts)

    def search(
        self,
        number: int,
        query_RD: Float32[np.ndarray, "R D"],
        table: Table | None,
        encoder: TextEncoder,
    ) -> Table:
        """Encode the texts of a source and choose its negatives.

        Args:
            number: of the source.
            query_RD: of `queries`.
            table: its negatives so far; None before the first search.
            encoder: of the texts.

        Returns:
            The same after the search. Before the first step, `conan` finds the file's own and their scores.
        """
        pool, spec = self._pools[number], self._spec
        document_ND = self._documents(number, encoder)
        if table is None:
            start = own(pool, query_RD, document_ND, spec.num_negatives)
            if spec.rule == "conan":
                return _codes(pool, start.row_RK), start.first_RK
        else:
            codes_RK, first_RK = table
            start = Negatives(np.where(codes_RK == NONE, NONE, pool.rows(codes_RK)), first_RK)
        progress = self._progress(number, "queries are searched for", len(query_RD))
        after = mine(pool, self._known, query_RD, document_ND, start, spec, progress, self._device)
        return _codes(pool, after.row_RK), after.first_RK

    def _documents(self, number: int, encoder: TextEncoder) -> np.ndarray:
        pool = self._pools[number]
        progress = self._progress(number, "texts are encoded", len(pool))
        parts = []
        for start in range(0, len(pool), _TEXTS):
            texts = pool.texts(start, min(start + _TEXTS, len(pool)))
            parts.append(encoder.encode(texts, side="document"))
            progress.advance(len(texts))
        return np.concatenate(parts)

    def _progress(self, number: int, unit: str, total: int) -> Progress:
        what = f"mining negatives of {self._sources[number].name}"
        return Progress(what, total, partial(log.info, "%s"), unit, _SECONDS)


def _known(pools: list[Pool]) -> KnownPairs:
    """What answers a query in one source is no negative of it in another; nor is its own text anywhere."""
    queries = [pool.query_hash_R for pool in pools]
    answered = [pool.query_hash_R[pool.positives.record_P] for pool in pools]
    answers = [pool.hash_N[pool.positives.row_P] for pool in pools]
    return KnownPairs(np.concatenate([*queries, *answered]), np.concatenate([*queries, *answers]))


def _codes(pool: Pool, row_RK: np.ndarray) -> np.ndarray:
    return np.where(row_RK == NONE, NONE, pool.code_N[row_RK])
