"""What a judge may say of a pair, and what scores say by two bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from codiemb.errors import UserError
from codiemb.mining.choose import pair_key
from data_prep.auditing.chosen import read_candidates
from data_prep.relations import Ids

# of a cheap judge the first three; of the strong one all; what is not negative is no negative any more
NEGATIVE, UNSURE, POSITIVE, DROP, NO_VERDICT = "negative", "unsure", "positive", "drop", "no verdict"
VERDICTS = (NEGATIVE, UNSURE, POSITIVE, DROP, NO_VERDICT)

# rows of the tables of queries and documents -> a score for each pair, NaN where there is none
ScorePairs = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Said(NamedTuple):
    """Of each of P pairs the verdict, and the score that it follows from (NaN where it follows from none)."""

    verdicts: list[str]
    score_P: Float[np.ndarray, " P"]


# rows of the tables of queries and documents -> what is said of each pair
Judge = Callable[[np.ndarray, np.ndarray], Said]


@dataclass(frozen=True)
class Bounds:
    """A score below the first says negative, from the second on positive; between them nothing is sure."""

    negative_below: float
    positive_from: float

    def check(self, low: str, high: str) -> None:
        """Refuse bounds that contradict each other.

        Raises:
            UserError: naming the options `low` and `high`.
        """
        if not self.negative_below <= self.positive_from:  # NaN, too
            raise UserError(
                f"relabel: {low}={self.negative_below} must not be above {high}={self.positive_from}"
            )

    def verdicts(self, score_P: Float[np.ndarray, " P"]) -> list[str]:
        """Of each score; a pair without one is unsure."""
        sure = np.where(score_P >= self.positive_from, POSITIVE, UNSURE)
        return [str(each) for each in np.where(score_P < self.negative_below, NEGATIVE, sure)]


@dataclass(frozen=True)
class ByScore:
    """A judge that scores pairs."""

    score: ScorePairs
    bounds: Bounds

    def __call__(self, query_P: Int[np.ndarray, " P"], document_P: Int[np.ndarray, " P"]) -> Said:
        """See `Judge`."""
        score_P = np.asarray(self.score(query_P, document_P), dtype=np.float64)
        return Said(self.bounds.verdicts(score_P), score_P)


class GivenScores:
    """The scores that a source has of a scorer, whatever became of the pair; 16 bytes a row.

    Raises:
        UserError: there is no such scorer.
    """

    def __init__(self, source: Path, ids: Ids, name: str) -> None:
        found = read_candidates(source, ids, [name])
        self._key_F, first = np.unique(found.key_F, return_index=True)
        self._score_F = found.score_F[first]

    def __call__(self, query_P: np.ndarray, document_P: np.ndarray) -> np.ndarray:
        """A score for each pair, NaN where there is none."""
        wanted = pair_key(query_P, document_P)
        place = np.minimum(np.searchsorted(self._key_F, wanted), max(len(self._key_F) - 1, 0))
        if not len(self._key_F):
            return np.full(len(wanted), np.nan)
        return np.where(self._key_F[place] == wanted, self._score_F[place], np.nan)
