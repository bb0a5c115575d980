"""Tokens and cost of a ledger, counted and capped: what is under way counts as the most that it may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from data_prep.endpoint.faults import Stop
from data_prep.endpoint.ledger import Ledger
from data_prep.endpoint.options import EndpointOptions

_UNLIMITED_ANSWER = 1024  # tokens that an answer without a limit is taken to have


class Spending:
    """What the requests of a ledger have taken, those of earlier runs included."""

    def __init__(self, options: EndpointOptions, ledger: Ledger) -> None:
        self._options, self._ledger = options, ledger
        self._under_way = [0, 0]  # tokens asked and answered, at most
        self._freed = asyncio.Condition()

    def cost(self, asked: int | None = None, answered: int | None = None) -> float:
        """Of so many tokens; of the ledger's, if none are given."""
        asked = self._ledger.asked if asked is None else asked
        answered = self._ledger.answered if answered is None else answered
        return (asked * self._options.price_input + answered * self._options.price_output) / 1e6

    @property
    def longest_answer(self) -> int:
        """Tokens that an answer may have."""
        return self._options.max_answer_tokens or _UNLIMITED_ANSWER

    @asynccontextmanager
    async def reserved(self, asked: int) -> AsyncIterator[None]:
        """Hold the tokens of a request and its longest answer; waits for others to give theirs back.

        Raises:
            Stop: a cap would be passed, and nothing is under way that could give tokens back.
        """
        if self._options.max_cost is None and self._options.max_total_tokens is None:
            yield
            return
        async with self._freed:
            while cap := self._passed(asked):
                if not any(self._under_way):
                    raise Stop(cap)
                await self._freed.wait()
            self._add(asked, self.longest_answer)
        try:
            yield
        finally:
            self._add(-asked, -self.longest_answer)
            async with self._freed:
                self._freed.notify_all()

    def _add(self, asked: int, answered: int) -> None:
        self._under_way[0] += asked
        self._under_way[1] += answered

    def _passed(self, asked: int) -> str | None:
        """The cap that one more request could pass."""
        options = self._options
        asked += self._ledger.asked + self._under_way[0]
        answered = self._ledger.answered + self._under_way[1] + self.longest_answer
        if options.max_total_tokens is not None and asked + answered > options.max_total_tokens:
            return _reached("max_total_tokens", options.max_total_tokens, asked + answered, self._spent())
        if options.max_cost is not None and self.cost(asked, answered) > options.max_cost:
            return _reached("max_cost", options.max_cost, round(self.cost(asked, answered), 6), self._spent())
        return None

    def _spent(self) -> str:
        tokens = f"{self._ledger.asked + self._ledger.answered:,} tokens, cost {self.cost():.4f}"
        return f"{tokens}, for {len(self._ledger):,} answers in {self._ledger.path}"


def _reached(cap: str, limit: float, would_be: float, spent: str) -> str:
    return (
        f"{cap}={limit:g} is reached: with one more request it could be {would_be:g} (so far {spent}). "
        f"The same command with a higher --{cap.replace('_', '-')} goes on from here"
    )
