"""A loopback chat-completions endpoint: it answers, limits, fails, cuts off or hangs as a test tells it."""

import asyncio
import gc
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from experiments.synthesise.loopback import HALVES, half, in_a_thread

KEY = "sk-secret-0123456789"


class ChatServer:
    """`plan`: what happens to the next requests, one after the other; afterwards `fault` decides.

    Attributes:
        answer: the text for a request's body.
        fault: "" or a fault, for a request's body.
        bodies: of all requests, in order.
        finished: how often each body was answered well, by its text.
        delay: seconds before an answer.
        max_at_once: the most requests that were under way together.
    """

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], str] = lambda body: f"echo: {body['messages'][-1]['content']}"
        self.fault: Callable[[dict[str, Any]], str] = lambda body: ""
        self.plan: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.finished = Counter[str]()
        self.keys: list[str] = []
        self.delay = 0.0
        self.at_once = self.max_at_once = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        try:
            fault = self.plan.pop(0) if self.plan else self.fault(body)
            if self.delay:
                await asyncio.sleep(self.delay)
            if fault:
                return await self._fail(fault, request)
            self.finished[json.dumps(body, sort_keys=True)] += 1
            return web.json_response(completion(self.answer(body)))
        finally:
            self.at_once -= 1

    async def _fail(self, fault: str, request: web.Request) -> web.StreamResponse:
        whole = json.dumps(completion('{"query": "what"}')).encode()
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault in HALVES:
            return await half(request, whole, fault)
        if fault in ("wrong schema", "a list"):
            return web.json_response({"choices": []} if fault == "wrong schema" else [1])
        if fault in ("length", "content_filter"):
            return web.json_response(completion("half of it", finish=fault))
        status, code, told, headers = FAULTS[fault]
        return web.json_response({"error": {"code": code, "message": told}}, status=status, headers=headers)


FAULTS: dict[str, tuple[int, str | None, str, dict[str, str]]] = {
    "429": (429, "rate_limit_exceeded", "slow down", {"Retry-After": "0.05"}),
    "429 for an hour": (429, "rate_limit_exceeded", "slow down", {"Retry-After": "3600"}),
    "500": (500, None, "oh", {}),
    "401": (401, "invalid_api_key", f"Incorrect API key provided: {KEY}", {}),
    "404": (404, "model_not_found", "no such model", {}),
    "400": (400, None, "unknown parameter: seed", {}),
    "too long": (400, None, "This model's maximum context length is 8 tokens", {}),
    "insufficient_quota": (429, "insufficient_quota", "You exceeded your current quota", {}),
}


def asks_and_queries(body: dict[str, Any]) -> str:
    """What the recipe `query` wants: who asks, and then a query, another one for each seed."""
    if '"question_type"' in body["messages"][-1]["content"]:
        return json.dumps({"persona": "a sailor", "question_type": "keywords", "difficulty": "student"})
    return json.dumps({"query": f"what of number {body['seed']}"})


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    """A chat completion that has asked 10 tokens and answered 5."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def serving() -> Iterator[ChatServer]:
    """The server at a port of its own, in a thread, until the block ends."""
    server = ChatServer()
    with in_a_thread(server.handle, shutdown_timeout=0.01) as server.port:
        yield server
    with warnings.catch_warnings():  # what a test has cut warns here, not in whatever test comes next
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
