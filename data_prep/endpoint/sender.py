"""Send a request as often as it may take, at the rates that are allowed, and read what comes back."""

import asyncio
import json
import time
from importlib import import_module
from typing import Any

from codiemb.errors import UserError
from data_prep.endpoint.faults import Stop, Transient, of_status
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.request import BYTES_PER_TOKEN, Answer

_PACKAGES = ("openai", "tenacity", "aiolimiter")
_PIECE = 10  # a minute's tokens are let through in so many pieces: no burst at the start
_PATIENCE = 10
_TRIES_TO_REACH = 2


class Sender:
    """Of one event loop.

    Args:
        options: of the endpoint.
        longest_answer: tokens; they count for the rate before the answer is there.

    Raises:
        UserError: a package is missing, or the key.
    """

    def __init__(self, options: EndpointOptions, longest_answer: int) -> None:
        self._openai, tenacity, aiolimiter = map(_needed, _PACKAGES)
        self._options, self._longest_answer = options, longest_answer
        self._key = options.key()
        self._client = self._openai.AsyncOpenAI(
            base_url=options.endpoint,
            api_key=self._key or "none",
            max_retries=0,
            timeout=options.timeout_seconds,
            http_client=self._openai.DefaultAioHttpClient(),  # half the CPU time of the client's own
        )
        first, longest = options.first_wait_seconds, options.longest_wait_seconds
        self._backoff = tenacity.wait_exponential(first, longest) + tenacity.wait_random(0, first / 2)
        self._retrying = tenacity.AsyncRetrying(
            stop=self._is_enough,
            retry=tenacity.retry_if_exception_type(Transient),
            wait=self._wait,
            reraise=True,
        )
        requests, tokens = options.requests_per_minute, options.tokens_per_minute
        self._requests = aiolimiter.AsyncLimiter(1, 60 / requests) if requests else None
        self._tokens = aiolimiter.AsyncLimiter(tokens / _PIECE, 60 / _PIECE) if tokens else None
        self._not_before = 0.0
        self._has_answered = False

    async def send(self, body: dict[str, Any], asked: int) -> Answer:
        """The answer.

        Args:
            body: of the request.
            asked: about how many tokens it has.

        Raises:
            Transient: all attempts have failed. Refused: this request has no answer. Stop: none has.
        """
        answer: Answer = await self._retrying(self._attempt, body, asked)
        return answer

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def _attempt(self, body: dict[str, Any], asked: int) -> Answer:
        await self._turn(asked + self._longest_answer)
        try:
            async with asyncio.timeout(self._options.timeout_seconds):  # the client's own is for each read
                text = await self._post(body)
        except TimeoutError:
            raise Transient(f"no answer in {self._options.timeout_seconds:g} s") from None
        except self._openai.APIStatusError as error:
            fault = self._fault(error)
        except self._openai.APIConnectionError as error:
            fault = Transient(self._clean(str(error.__cause__ or error)), no_answer=True)
        else:
            self._has_answered = True
            return _answer(self._clean(text), asked)
        raise fault from None  # a chain of exceptions would hold the headers, and the key

    async def _post(self, body: dict[str, Any]) -> str:
        known = {key: body[key] for key in ("model", "messages")}
        rest = {key: value for key, value in body.items() if key not in known}
        raw = await self._client.chat.completions.with_raw_response.create(**known, extra_body=rest)
        return bytes(raw.content).decode("utf-8", "replace")

    async def _turn(self, tokens: int) -> None:
        """Wait until the rates allow it, and no server has asked everybody to wait."""
        if self._requests is not None:
            await self._requests.acquire()
        while self._tokens is not None and tokens > 0:
            piece = min(tokens, self._tokens.max_rate)
            await self._tokens.acquire(piece)
            tokens -= piece
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _wait(self, state: Any) -> float:  # noqa: ANN401  tenacity.RetryCallState
        if state.outcome.exception().wait:
            return 0.0  # _turn waits, with all others
        return float(self._backoff(state))

    def _is_enough(self, state: Any) -> bool:  # noqa: ANN401
        """A server that says when to come back is up: many at a time may lose the race more often.

        One that has never answered may have another address: that is told soon.
        """
        fault, limit = state.outcome.exception(), self._options.max_attempts
        if fault.no_answer and not self._has_answered:
            limit = min(limit, _TRIES_TO_REACH)
        return bool(state.attempt_number >= (_PATIENCE * limit if fault.wait else limit))

    def _fault(self, error: Any) -> Exception:  # noqa: ANN401  openai.APIStatusError
        where = f"{self._options.endpoint} (key: {self._options.key_variable})"
        content = self._clean(error.response.text)
        try:
            told = json.loads(content)
        except ValueError:
            told = content
        fault = of_status(error.status_code, error.response.headers, told, where)
        if isinstance(fault, Transient) and fault.wait is not None:
            if fault.wait > self._options.longest_wait_seconds:
                return Stop(
                    f"{where} says to wait {fault.wait:.0f} s, which is more than longest_wait_seconds="
                    f"{self._options.longest_wait_seconds:g}: {fault}. The same command goes on from here"
                )
            self._not_before = max(self._not_before, time.monotonic() + fault.wait)
        return fault

    def _clean(self, text: str) -> str:
        """Without the key: some servers repeat it."""
        return text.replace(self._key, "***") if self._key else text


def _answer(text: str, asked: int) -> Answer:
    """The answer in the body of a response.

    Raises:
        Transient: it is half, or no chat completion.
    """
    try:
        reply = json.loads(text)
        choice = reply["choices"][0]
        content, finish = choice["message"].get("content") or "", choice.get("finish_reason")
        usage = reply.get("usage") or {}
        if not isinstance(content, str):
            raise TypeError("content is no text")
        content = content.encode("utf-8", "replace").decode()  # as the ledger will give it back
        tokens = (
            int(usage.get("prompt_tokens") or asked),
            int(usage.get("completion_tokens") or -(-len(content.encode()) // BYTES_PER_TOKEN)),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Transient(f"no chat completion ({type(error).__name__}: {error}): {text[:80]!r}") from None
    problems = {"length": "cut off at max_answer_tokens", "content_filter": "content filter"}
    return Answer(content, problems.get(finish) or (None if content else "empty"), *tokens)


def _needed(name: str) -> Any:  # noqa: ANN401  a module
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise UserError(
            f"asking a model needs the package {error.name}: pip install -e '.[synthesise]'"
            f" ({', '.join(_PACKAGES)})"
        ) from error
