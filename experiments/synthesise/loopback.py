"""A chat-completions endpoint in a thread of its own, and the answers that come only half."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

HALVES = ("cut", "half JSON")  # the connection breaks, or ends as if all had been said


async def half(request: web.Request, whole: bytes, fault: str) -> web.StreamResponse:
    """The first half of an answer, as one of HALVES."""
    length = {"Content-Length": str(len(whole))} if fault == "cut" else {}
    response = web.StreamResponse(headers={"Content-Type": "application/json", **length})
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])
    if fault == "cut" and request.transport is not None:
        request.transport.abort()
    return response


@contextmanager
def in_a_thread(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    port: int = 0,
    shutdown_timeout: float = 0.1,
) -> Iterator[int]:
    """Serve until the block ends; gives the port, a free one for 0."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ports.append(runner.addresses[0][1])
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(loop)  # answers that hang
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
