"""Whose turn a step is, and how many turns its source had before: a random order that can be counted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from codiemb.data.permutation import Permutation, Stream, mix

_BLOCK = 64  # steps shuffled together, at least; a table that large costs 0.1 ms and is kept
_PER_SOURCE = 4  # steps of a block for each source, at least: no block is empty
_MOST_BLOCKS = 1 << 20  # of a cycle, so that quota x block stays within 64 bits


class Turn(NamedTuple):
    """A source, and the number of its turns before this one."""

    source: int
    number: int


class _Block(NamedTuple):
    """Neighbouring steps whose turns are shuffled together."""

    cycle: int
    start: int  # within the cycle
    turns_before_K: Int[np.ndarray, " K"]  # of each source, within the cycle
    source_of_step: Int[np.ndarray, " n"]

    def holds(self, cycle: int, position: int) -> bool:
        return cycle == self.cycle and 0 <= position - self.start < len(self.source_of_step)


class Turns:
    """`turns[step]`: `quotas[k]` turns of source k in every cycle of sum(quotas) steps, in random order.

    A cycle consists of blocks. Source k has had floor((quota_k * i + phase_k) / number of blocks) turns
    before block i, so its share is kept to within one turn at every block, and exactly at the end of a cycle;
    the phases are random, and so is the order within a block. What came before a step is therefore a formula
    and a count within one block: nothing is stored but the block that was asked for last.
    """

    def __init__(self, quotas: Int[np.ndarray, " K"], seed: int) -> None:
        self._quotas = quotas
        self._seed = seed
        self._length = int(quotas.sum())
        size = max(_BLOCK, _PER_SOURCE * len(quotas))
        self._num_blocks = min(max(1, self._length // size), _MOST_BLOCKS)
        self._last: _Block | None = None

    def __getitem__(self, step: int) -> Turn:
        """Random access; steps never end."""
        cycle, position = divmod(step, self._length)
        if self._last is None or not self._last.holds(cycle, position):
            self._last = self._block(cycle, position)
        block = self._last
        place = position - block.start
        source = int(block.source_of_step[place])
        in_block = np.count_nonzero(block.source_of_step[:place] == source)
        before = cycle * int(self._quotas[source]) + int(block.turns_before_K[source])
        return Turn(source, before + int(in_block))

    def _block(self, cycle: int, position: int) -> _Block:
        """The block of a cycle that holds this position."""
        sources = range(len(self._quotas))
        phase_K = np.array([mix(self._seed, Stream.PHASES, cycle, k) % self._num_blocks for k in sources])
        # Rounding moves a border by less than one step a source, and a block has _PER_SOURCE of each.
        near = position * self._num_blocks // self._length
        number_b = np.arange(max(near - 1, 0), min(near + 2, self._num_blocks) + 1)
        turns_bK = (number_b[:, None] * self._quotas + phase_K) // self._num_blocks
        start_b = turns_bK.sum(axis=1)
        b = int(np.searchsorted(start_b, position, side="right")) - 1
        counts_K = turns_bK[b + 1] - turns_bK[b]
        order = Permutation(int(counts_K.sum()), mix(self._seed, Stream.CYCLE, cycle, int(number_b[b])))
        slots = order(np.arange(counts_K.sum()))
        return _Block(
            cycle, int(start_b[b]), turns_bK[b], np.searchsorted(counts_K.cumsum(), slots, side="right")
        )
