"""Which candidates may be hard negatives: the window of ranks, and limits on the score."""

from dataclasses import dataclass

import numpy as np

from codiemb.errors import UserError

KEPT = 0  # the code of a candidate that nothing speaks against
REASONS = (
    "",
    "positive",  # known to answer the query
    "same text",  # as a positive, or as the query itself
    "same cluster",  # a near duplicate of a positive
    "rank",  # outside the window
    "margin",  # too near to the positive's score
    "percent",
    "lowest",
    "highest",
    "not chosen",  # could be one, but enough others were taken
)
POSITIVE = REASONS.index("positive")


@dataclass(frozen=True)
class Limits:
    """What a hard negative must satisfy; None for no limit.

    Attributes:
        min_rank: the first raw rank, from 1. Raw: counted over all documents, before anything is left out, so
            that a margin does not move the window.
        max_rank: the last one.
        margin: a negative scores at most the positive's score less this.
        percent: a negative scores at most this share of the positive's score (NV-Retriever, arXiv 2407.15831:
            0.95). For a negative score s the limit is as far below it: s - (1 - percent) * |s|.
        lowest: the lowest score of a negative.
        highest: the highest score of a negative.
    """

    min_rank: int = 1
    max_rank: int = 50
    margin: float | int | None = None
    percent: float | int | None = None
    lowest: float | int | None = None
    highest: float | int | None = None

    def check(self) -> None:
        """Refuse what no candidate can satisfy, or what does not mean what it says.

        Raises:
            UserError: naming the option.
        """
        if not 1 <= self.min_rank <= self.max_rank:
            raise UserError(
                f"min_rank={self.min_rank}, max_rank={self.max_rank}: ranks count from 1, the last not below "
                "the first"
            )
        if self.percent is not None and not 0 < self.percent <= 1:
            raise UserError(f"percent={self.percent} must be a share above 0 and at most 1 (0.95 is 95 %)")
        numbers = {"margin": self.margin, "lowest": self.lowest, "highest": self.highest}
        for name, value in numbers.items():
            if value is not None and not np.isfinite(value):
                raise UserError(f"{name}={value} must be a finite number, or left out")
        if self.lowest is not None and self.highest is not None and self.lowest > self.highest:
            raise UserError(f"lowest={self.lowest} is above highest={self.highest}: no score fits")

    def verdicts(self, rank_F: np.ndarray, score_F: np.ndarray, positive_F: np.ndarray) -> np.ndarray:
        """A code of REASONS for each of F candidates, KEPT for those within all limits.

        Args:
            rank_F: raw rank from 1; 0 where a document was scored and not found by the search.
            score_F: of the candidate.
            positive_F: the score of the positive of its query that it is compared with.
        """
        verdict_F = np.full(len(rank_F), KEPT, dtype=np.int8)
        checks = [("rank", (rank_F < self.min_rank) | (rank_F > self.max_rank))]
        if self.margin is not None:
            checks.append(("margin", score_F > positive_F - self.margin))
        if self.percent is not None:
            checks.append(("percent", score_F > positive_F - (1 - self.percent) * np.abs(positive_F)))
        if self.lowest is not None:
            checks.append(("lowest", score_F < self.lowest))
        if self.highest is not None:
            checks.append(("highest", score_F > self.highest))
        for reason, fails_F in checks:
            verdict_F[(verdict_F == KEPT) & fails_F] = REASONS.index(reason)
        return verdict_F
