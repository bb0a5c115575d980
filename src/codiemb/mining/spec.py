"""What a researcher chose about negatives that are mined anew while training: the schema of `refresh`."""

from dataclasses import dataclass

from codiemb.mining.limits import Limits

RULES = ("replace", "conan")


@dataclass
class RefreshSpec:
    """Hard negatives of IR records, mined anew with the current weights (docs/training.md).

    Attributes:
        every_n_steps: optimizer steps between two searches; null never.
        rule: `replace` takes the nearest texts of each search instead of what there was; `conan` replaces a
            negative once its score times `factor` is below its first score (arXiv 2408.15710).
        num_negatives: that a record has after a search, at most; each step draws `tasks.ir.num_negatives`.
        min_rank: the first rank of a negative among a query's nearest texts, its positives counted, from 1.
        max_rank: the last one.
        percent: a new negative scores at most this share of the record's lowest positive; null: no limit.
        factor: of `conan`.
    """

    every_n_steps: int | None = None
    rule: str = "replace"
    num_negatives: int = 8
    min_rank: int = 1
    max_rank: int = 50
    percent: float | None = 0.95
    factor: float = 1.15

    def limits(self) -> Limits:
        """What a negative must satisfy, as `data_prep mine` has it."""
        return Limits(self.min_rank, self.max_rank, percent=self.percent)
