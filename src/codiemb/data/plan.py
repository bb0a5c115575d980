"""The order of training as a pure function of (seed, step): the source and the examples of all ranks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from codiemb.data.permutation import Permutation, Stream, mix
from codiemb.data.turns import Turn, Turns
from codiemb.errors import UserError

_CYCLE = 1_000  # least number of steps in which weights are honoured exactly (largest remainder)
_LONGEST_CYCLE = 10**9
_BLOCK = 1 << 14  # steps looked at together


class PlannedSource(NamedTuple):
    """What the plan must know of a source."""

    name: str
    task: str
    num_examples: int
    global_batch_size: int

    @property
    def num_batches(self) -> int:
        """Full global batches in one epoch of this source; the tail differs from epoch to epoch."""
        return self.num_examples // self.global_batch_size


class PlannedStep(NamedTuple):
    """A global batch: one source, one task, the same on all ranks. An optimizer step takes one, or more
    (`batches_per_step`)."""

    source: int
    epoch: int  # of this source
    indices: Int[np.ndarray, " global_batch"]


@runtime_checkable
class Schedule(Protocol):
    """How steps are shared among sources: `quotas` steps of each in every cycle."""

    shuffled: bool

    def quotas(self, sources: Sequence[PlannedSource]) -> list[int]:
        """Steps of each source in one cycle of the schedule."""
        ...


class Proportional:
    """All full batches of all sources, pooled and shuffled: the published schedule."""

    shuffled = True

    def quotas(self, sources: Sequence[PlannedSource]) -> list[int]:
        """One cycle is one epoch of every source."""
        return [source.num_batches for source in sources]


class SizePower:
    """Steps proportional to (number of examples) ** alpha.

    Args:
        alpha: 1 follows size, 0 is uniform.

    Raises:
        UserError: alpha outside 0..1.
    """

    shuffled = True

    def __init__(self, alpha: float | int) -> None:
        if not 0 <= alpha <= 1:
            raise UserError(f"sampler.alpha={alpha} must lie in 0..1")
        self.alpha = float(alpha)

    def quotas(self, sources: Sequence[PlannedSource]) -> list[int]:
        """Shares of a cycle of 1,000 steps, or of more where the least share needs more."""
        return _largest_remainder([source.num_examples**self.alpha for source in sources])


class Weights:
    """Explicit shares by source name.

    Args:
        weights: of all sources by name; only their ratios count, and 0 leaves a source out.

    Raises:
        UserError: a weight that is no finite number >= 0, or none above 0.
    """

    shuffled = True

    def __init__(self, weights: Mapping[str, float | int] | None = None) -> None:
        weights = weights or {}
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise UserError(f"sampler.weights.{name}={weight!r} must be a finite number >= 0")
        if weights and not any(weights.values()):
            raise UserError(f"sampler.weights={dict(weights)} gives no source a weight above 0")
        self.weights = {name: float(weight) for name, weight in weights.items()}

    def quotas(self, sources: Sequence[PlannedSource]) -> list[int]:
        """Shares of a cycle of 1,000 steps, or of more where the least share needs more.

        Raises:
            UserError: the names are not those of the sources.
        """
        names = {source.name for source in sources}
        if names != set(self.weights):
            raise UserError(
                f"sampler.weights={self.weights} must name every source once; "
                f"sources: {', '.join(sorted(names))}"
            )
        return _largest_remainder([self.weights[source.name] for source in sources])


class Alternate:
    """Sources in strict turn, one step each."""

    shuffled = False

    def quotas(self, sources: Sequence[PlannedSource]) -> list[int]:
        """One step each."""
        return [1] * len(sources)


class Plan:
    """`plan[step]`: random access, O(1) memory per source, independent of ranks, workers and interruptions.

    Whatever the schedule, a source begins its next epoch when it has shown all full batches of this one: no
    example of an epoch repeats and none is lost but the tail of `num_examples % global_batch_size` examples,
    another one each epoch.

    Args:
        sources: name, task, size and global batch size of each.
        schedule: how steps are shared among them.
        seed: chooses all permutations.

    Raises:
        UserError: no source, two of one name, one smaller than its batch, or a batch without queries.
    """

    def __init__(self, sources: Sequence[PlannedSource], schedule: Schedule, seed: int) -> None:
        if not sources:
            raise UserError("the plan has no source; set data.files or data=builtin")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise UserError(f"two sources have the same name: {', '.join(sorted(names))}; rename a file")
        for source in sources:
            _check_size(source)
        self.sources = list(sources)
        self.seed = seed
        self._quotas = np.asarray(schedule.quotas(sources), dtype=np.int64)
        # of the sources that are drawn at all: one of weight 0 makes no epoch longer
        drawn = self._quotas.nonzero()[0].tolist()
        self.steps_per_epoch = sum(sources[k].num_batches for k in drawn)
        self._ends = self._quotas.cumsum()
        # Where a cycle is one epoch of every source, its batches may come in any order.
        self._pools_epochs = schedule.shuffled and all(
            self._quotas[k] == sources[k].num_batches for k in drawn
        )
        self._turns = Turns(self._quotas, seed) if schedule.shuffled and not self._pools_epochs else None

    def __getitem__(self, step: int) -> PlannedStep:
        """The source and the examples of one global batch; they never end."""
        if step < 0:
            raise IndexError(step)
        k, number = self._turn(step) if self._turns is None else self._turns[step]
        # a source counts its own turns: its epoch ends when all its batches were shown
        epoch, batch = divmod(number, self.sources[k].num_batches)
        return PlannedStep(k, epoch, self._examples(k, epoch, batch))

    def last_examples(self, source: int, count: int) -> Int[np.ndarray, " n"]:
        """Up to `count` examples that a run meets last, or not at all, in a source's first epoch.

        First the tail that no batch of the epoch holds, then its batches, the last one first.
        """
        spec, order = self.sources[source], self._order(source, epoch=0)
        if self._quotas[source] == 0:  # never drawn
            return order(np.arange(min(count, spec.num_examples)))
        found = [order(np.arange(spec.num_batches * spec.global_batch_size, spec.num_examples))]
        for batch in self._batches_backwards(source):
            if sum(map(len, found)) >= count:
                break
            found.append(self._examples(source, 0, batch))
        return np.concatenate(found)[:count]

    def _turn(self, step: int) -> Turn:
        """In strict turn, or a place in a pool of epochs: a batch's number is its place before shuffling."""
        cycle, position = divmod(step, int(self._ends[-1]))
        # the shuffle is a keyed permutation: one number is asked for, none is stored
        slot = int(self._slots(np.array([position]), cycle)[0])
        k = int(np.searchsorted(self._ends, slot, side="right"))
        quota = int(self._quotas[k])
        return Turn(k, cycle * quota + slot - (int(self._ends[k]) - quota))

    def _batches_backwards(self, source: int) -> Iterator[int]:
        """Numbers of the batches of a source's first epoch, the last one that is shown first.

        In a pool of epochs it looks at a block of steps at a time: a source with one step in a million is
        found in a second.
        """
        if not self._pools_epochs:
            yield from reversed(range(self.sources[source].num_batches))
            return
        last_slot = int(self._ends[source])
        first_slot = last_slot - int(self._quotas[source])
        for end in range(int(self._ends[-1]), 0, -_BLOCK):
            slots = self._slots(np.arange(max(end - _BLOCK, 0), end), cycle=0)[::-1]
            yield from (slots[(slots >= first_slot) & (slots < last_slot)] - first_slot).tolist()

    def _examples(self, source: int, epoch: int, batch: int) -> Int[np.ndarray, " global_batch"]:
        size = self.sources[source].global_batch_size
        # another permutation each epoch: the tail that fills no batch is another one, too
        return self._order(source, epoch)(np.arange(batch * size, (batch + 1) * size))

    def _order(self, source: int, epoch: int) -> Permutation:
        return Permutation(self.sources[source].num_examples, mix(self.seed, Stream.EXAMPLES, source, epoch))

    def _slots(self, positions: Int[np.ndarray, " k"], cycle: int) -> Int[np.ndarray, " k"]:
        """The places in a cycle before it is shuffled: those of a source lie side by side."""
        if not self._pools_epochs:
            return positions
        return Permutation(int(self._ends[-1]), mix(self.seed, Stream.CYCLE, cycle))(positions)


def micro_batch_size(source: PlannedSource, num_ranks: int, accumulation: int) -> int:
    """Queries of one forward pass on one rank.

    Raises:
        UserError: the global batch does not divide; prints all numbers.
    """
    parts = num_ranks * accumulation
    size, rest = divmod(source.global_batch_size, parts)
    if rest or not size:
        nearest = sorted({max(size, 1) * parts, (size + 1) * parts})
        raise UserError(
            f"tasks.{source.task}.global_batch_size={source.global_batch_size} does not divide by "
            f"{num_ranks} ranks x trainer.accumulate_grad_batches={accumulation} "
            f"(source {source.name}); the nearest sizes that do: {', '.join(map(str, nearest))}"
        )
    return size


def _check_size(source: PlannedSource) -> None:
    key = f"tasks.{source.task}.global_batch_size={source.global_batch_size}"
    if source.global_batch_size < 1:
        raise UserError(f"{key} must be at least 1")
    if source.num_batches == 0:
        raise UserError(
            f"source {source.name} has {source.num_examples} examples, fewer than one batch: {key}; make the "
            "batch smaller"
        )


def _largest_remainder(weights: Sequence[float]) -> list[int]:
    """Steps of each source in a cycle, as close to the weights as integers can be.

    The cycle is long enough for every source of a weight above 0 (a billionth or more of all) to get a step.
    """
    shares = np.asarray(weights, dtype=np.float64) / max(weights)
    shares /= shares.sum()
    least = float(shares[shares > 0].min())
    cycle = max(_CYCLE, math.ceil(min(1 / least, _LONGEST_CYCLE)))
    exact = shares * cycle
    quotas = np.floor(exact).astype(np.int64)
    for k in np.argsort(quotas - exact, kind="stable")[: cycle - int(quotas.sum())]:
        quotas[k] += 1
    return quotas.tolist()
