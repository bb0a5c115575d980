"""Ask a model: a request that the ledger has answered is not sent, one that fails is sent again."""

import asyncio
from typing import Any

from data_prep.endpoint.faults import Refused, Stop, Transient
from data_prep.endpoint.ledger import Ledger
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.request import NO_ANSWER, Answer, Request, key_of
from data_prep.endpoint.sender import Sender
from data_prep.endpoint.spending import Spending
from data_prep.endpoint.writing import Writer


class Client:
    """Of one event loop and one ledger.

    The packages are imported, and the key is looked up, when the first request is sent: what the ledger
    answers needs neither.

    Attributes:
        spending: tokens and cost.
        used: the answers that this run has taken, by key: (tokens asked, tokens answered).
    """

    def __init__(self, options: EndpointOptions, ledger: Ledger) -> None:
        self._options, self._ledger = options, ledger
        self._sampling = options.sampling()
        self.spending = Spending(options, ledger)
        self.used: dict[bytes, tuple[int, int]] = {}
        self._writer = Writer(ledger)
        self._under_way: dict[str, asyncio.Future[Answer]] = {}
        self._sender: Sender | None = None
        self._stop: Stop | None = None
        self._num_answered = 0

    async def ask(self, request: Request) -> Answer:
        """The answer to a request, on the disk by now.

        Raises:
            Stop: the run cannot go on, or has been stopped.
        """
        body = request.body(self._options.model, self._sampling, self._options.response_format)
        key = key_of(body)
        answer = self._ledger.get(key)
        if answer is None or self._is_to_mend(answer):
            if (other := self._under_way.get(key)) is not None:  # the same request, of another row
                return await asyncio.shield(other)
            answer = await self._first(key, body, request)
        self.used[bytes.fromhex(key)] = (answer.asked, answer.answered)
        return answer

    def _is_to_mend(self, answer: Answer) -> bool:
        """What was given up in a run with on_failure=reject is asked again in one without."""
        given_up = answer.problem is not None and answer.problem.startswith(NO_ANSWER)
        return given_up and self._options.on_failure == "stop"

    async def close(self) -> None:
        """When nothing is asked any more."""
        if self._sender is not None:
            await self._sender.close()
        self._writer.close()

    async def _first(self, key: str, body: dict[str, Any], request: Request) -> Answer:
        """Ask, and let those that ask the same meanwhile have the answer, or the error."""
        if self._stop is not None:
            raise Stop(str(self._stop), at_once=self._stop.at_once)
        shared = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._paid(key, body, request)
        except BaseException as error:
            if isinstance(error, Stop):
                self._stop = self._stop or error
            if isinstance(error, Exception):
                shared.set_exception(error)
                shared.exception()  # nobody may be waiting
            else:
                shared.cancel()
            raise
        finally:
            del self._under_way[key]
        shared.set_result(answer)
        return answer

    async def _paid(self, key: str, body: dict[str, Any], request: Request) -> Answer:
        asked = request.num_tokens()
        async with self.spending.reserved(asked):
            answer = await self._answered(body, asked)
            await self._writer.write((key, answer, request.about))
        self._num_answered += answer.problem is None
        return answer

    async def _answered(self, body: dict[str, Any], asked: int) -> Answer:
        if self._sender is None:
            self._sender = Sender(self._options, self.spending.longest_answer)
        before = self._num_answered
        try:
            return await self._sender.send(body, asked)
        except Refused as error:
            return Answer("", f"refused: {error}")
        except Transient as error:
            if self._options.on_failure == "reject" and self._num_answered > before:
                return Answer("", f"{NO_ANSWER}: {error}")
            raise Stop(
                f"{self._options.endpoint}: a request failed again and again, at last: {error}. "
                "The same command goes on from here; --on-failure reject leaves such requests out"
            ) from error
