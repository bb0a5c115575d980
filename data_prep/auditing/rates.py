"""The share of judged negatives that are wrong, with its confidence interval."""

import math
from typing import NamedTuple

_Z = 1.959963984540054  # of 95 %


class Rate(NamedTuple):
    """`false` of `judged`, with the 95 % interval of Wilson (JASA 22, 1927): right for few and for none."""

    judged: int
    false: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.false / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest share that are compatible with what was seen; (0, 1) of nothing."""
        if not self.judged:
            return 0.0, 1.0
        share, n = self.false / self.judged, self.judged
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)
