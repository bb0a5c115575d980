"""The candidates that are still kept, each pair once: the negatives that export would write."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from codiemb.errors import UserError
from codiemb.mining.choose import pair_key
from data_prep.blocks import column
from data_prep.layout import CANDIDATES
from data_prep.relations import Ids, is_kept


class Candidates(NamedTuple):
    """Rows of candidates of one or more scorers; 41 bytes a row.

    Attributes:
        query_F, document_F: row numbers.
        rank_F: NaN where a pair was scored and not searched for.
        score_F: of the scorer.
        scorer_F: a number, of `names`.
        kept_F: a search has found it, and no step has dropped row, query or document.
        names: of the scorers.
    """

    query_F: Int[np.ndarray, " F"]
    document_F: Int[np.ndarray, " F"]
    rank_F: Float[np.ndarray, " F"]
    score_F: Float[np.ndarray, " F"]
    scorer_F: Int[np.ndarray, " F"]
    kept_F: Bool[np.ndarray, " F"]
    names: Sequence[str]

    @property
    def key_F(self) -> Int[np.ndarray, " F"]:
        """One number for each pair."""
        return pair_key(self.query_F, self.document_F)

    def chosen(self) -> "Candidates":
        """Rows that are kept; a pair of several scorers by the first of them."""
        rows = np.flatnonzero(self.kept_F)
        first = np.sort(np.unique(self.key_F[rows], return_index=True)[1])
        return self.take(rows[first])

    def take(self, rows: np.ndarray) -> "Candidates":
        """Some rows, by number or mask."""
        return Candidates(
            self.query_F[rows],
            self.document_F[rows],
            self.rank_F[rows],
            self.score_F[rows],
            self.scorer_F[rows],
            self.kept_F[rows],
            self.names,
        )


def read_candidates(source: Path, ids: Ids, scorers: Sequence[str]) -> Candidates:
    """Of these scorers, or of all.

    Raises:
        UserError: there is no such scorer, or none at all.
    """
    found = [path.stem for path in sorted((source / CANDIDATES).glob("*.parquet"))]
    for name in scorers:
        if name not in found:
            raise UserError(
                f"{source / CANDIDATES}: no scorer {name!r}; there are {', '.join(found) or 'none'}"
            )
    names = list(scorers) or found
    if not names:
        raise UserError(f"{source}: no candidates to audit; make them with: python -m data_prep mine")
    parts = [_read(source / CANDIDATES / f"{name}.parquet", ids, number) for number, name in enumerate(names)]
    query, document, rank, score, scorer, kept = map(np.concatenate, zip(*parts, strict=True))
    return Candidates(query, document, rank, score, scorer, kept, names)


def _read(path: Path, ids: Ids, number: int) -> tuple[np.ndarray, ...]:
    pairs = ids.pairs(path, "score")
    rank_F = column(path, "rank").to_numpy().astype(np.float64)
    live = ids.query_kept[pairs.query] & ids.document_kept[pairs.document]
    kept_F = ~np.isnan(rank_F) & is_kept(path) & live
    return pairs.query, pairs.document, rank_F, pairs.value, np.full(len(rank_F), number), kept_F
