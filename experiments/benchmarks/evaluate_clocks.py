"""The clocks of evaluate_speed: what a thing takes on both sides, and what encoding takes of a task."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PEER, OURS = "mteb with SentenceTransformer", "run_eval.py"


@dataclass
class Times:
    """What one thing took on both sides: (CPU seconds, seconds) a round."""

    taken: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def run(self, side: str, work: Callable[[], object]) -> object:
        """On the clock; what earlier work has left to collect is not its cost."""
        gc.collect()
        started, cpu_started = time.perf_counter(), time.process_time()
        result = work()
        self.taken[side].append((time.process_time() - cpu_started, time.perf_counter() - started))
        return result

    def median(self, side: str) -> float:
        """CPU seconds."""
        return statistics.median(cpu for cpu, _ in self.taken[side])

    def ratio(self, clock: int) -> float:
        """How many times as long the peer takes: by CPU seconds (0) or seconds (1)."""
        pairs = zip(self.taken[PEER], self.taken[OURS], strict=True)
        return statistics.median(peer[clock] / ours[clock] for peer, ours in pairs)


class Encoding:
    """What a task's encoding took on a side, of the CPU seconds of its whole; and the texts, of one round."""

    def __init__(self, encode: Callable[..., np.ndarray]) -> None:
        self.encode = encode
        self.seconds: list[float] = []
        self.texts: list[str] = []

    def begin(self) -> None:
        """A round."""
        self.seconds.append(0.0)
        self.texts = []

    def __call__(self, *args: Any, **options: Any) -> np.ndarray:  # noqa: ANN401  as `encode` of either side
        """Encode, on the clock."""
        self.texts += [*args, *options.values()][0]
        started = time.process_time()
        result = self.encode(*args, **options)
        self.seconds[-1] += time.process_time() - started
        return result

    def median(self) -> float:
        """CPU seconds of a round."""
        return statistics.median(self.seconds)
