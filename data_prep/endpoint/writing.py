"""Answers into the ledger: those that come while the disk is busy share the next flush."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from data_prep.endpoint.ledger import Ledger
from data_prep.endpoint.request import Answer

_Entry = tuple[str, Answer, str]


class Writer:
    """Of one event loop; a flush takes 1 to 10 ms, in which the loop goes on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[_Entry, asyncio.Future[None]]] = []
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._task: asyncio.Task[None] | None = None

    async def write(self, entry: _Entry) -> None:
        """Returns when the entry is on the disk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        await done

    def close(self) -> None:
        """Write what an interrupted loop has left: it is paid for."""
        self._thread.shutdown(wait=True)
        self._ledger.append(entry for entry, _ in self._waiting if self._ledger.get(entry[0]) is None)
        self._waiting = []

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := list(self._waiting):
            try:
                await loop.run_in_executor(self._thread, self._ledger.append, [entry for entry, _ in batch])
            except OSError as error:
                problem: OSError | None = error
            else:
                problem = None
            self._waiting = self._waiting[len(batch) :]
            for _, done in batch:
                if not done.done():
                    done.set_exception(problem) if problem else done.set_result(None)
