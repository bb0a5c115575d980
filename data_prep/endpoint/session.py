"""Ask a model many things at a time, from code that knows no event loop; results keep the order of items."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from codiemb.errors import UserError
from data_prep.endpoint.client import Client
from data_prep.endpoint.ledger import Ledger
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.request import Answer, Request

Ask = Callable[[Request], Awaitable[Answer]]
Item = TypeVar("Item")
Result = TypeVar("Result")


def ledger_path(options: EndpointOptions, out: Path) -> Path:
    """Of a step that writes to `out`: beside it, so that it outlives what is done again."""
    if options.ledger:
        return Path(options.ledger)
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in options.model)
    return out.with_name(f"{out.name}.ledger") / f"{name}.jsonl"


class Session:
    """An endpoint and its ledger, while they are open; `opened` makes one."""

    def __init__(self, options: EndpointOptions, ledger: Ledger, runner: asyncio.Runner) -> None:
        self._options, self._ledger, self._runner = options, ledger, runner
        self._client = Client(options, ledger)

    @staticmethod
    @contextmanager
    def opened(options: EndpointOptions, ledger: Path) -> Iterator["Session"]:
        """Check the options, open the ledger; what has been answered is on the disk however the block ends.

        Raises:
            UserError: an option is wrong, or the ledger cannot be used.
        """
        options.check()
        with Ledger.opened(ledger, options.model) as book, asyncio.Runner() as runner:
            session = Session(options, book, runner)
            try:
                yield session
            finally:
                runner.run(session._client.close())  # may find the disk full: the loop ends all the same

    def map(
        self,
        items: Sequence[Item],
        job: Callable[[Ask, Item], Awaitable[Result]],
        done: Callable[[int], None] = lambda count: None,
    ) -> list[Result]:
        """What `job` makes of each item, `concurrency` of them at a time, in the order of the items.

        A result must follow from the item and the answers alone; then it is the same after any interruption.

        Args:
            items: to work on.
            job: may ask several times, one after the other.
            done: told of each item that is finished.

        Raises:
            Stop: the run cannot go on; what was under way is waited for, unless no answer can come.
        """
        return self._runner.run(_in_parallel(items, lambda item: job(self._client.ask, item),
                                             self._options.concurrency, done))  # fmt: skip

    def note(self) -> str:
        """For a line of progress: what all requests of the ledger have taken."""
        tokens = f"{self._ledger.asked + self._ledger.answered:,} tokens"
        priced = self._options.price_input or self._options.price_output
        return f"{tokens}, cost {self._client.spending.cost():.4f}" if priced else tokens

    def taken(self) -> dict[str, Any]:
        """For a manifest: what the answers that this result follows from have taken, whenever it was."""
        used = self._client.used.values()
        asked, answered = sum(a for a, _ in used), sum(b for _, b in used)
        cost = round(self._client.spending.cost(asked, answered), 6)
        return {"requests": len(used), "tokens": {"asked": asked, "answered": answered}, "cost": cost}


async def _in_parallel(
    items: Sequence[Item],
    job: Callable[[Item], Awaitable[Result]],
    concurrency: int,
    done: Callable[[int], None],
) -> list[Result]:
    results: dict[int, Result] = {}
    waiting = iter(enumerate(items))
    stops: list[UserError] = []

    async def work() -> None:
        for index, item in waiting:
            try:
                results[index] = await job(item)
            except UserError as error:
                stops.append(error)
            else:
                done(1)
            if stops:
                return

    tasks = [asyncio.create_task(work()) for _ in range(min(concurrency, len(items)))]
    try:
        left = set(tasks)
        while left and not (stops and getattr(stops[0], "at_once", True)):
            finished, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if stops:
        raise stops[0]
    return [results[index] for index in range(len(items))]
