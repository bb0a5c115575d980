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
    ready, started = threading.Event(), []

    async def serve() -> None:
        app, stop = web.Application(), asyncio.Event()
        app.router.add_post("/v1/chat/completions", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        started.extend([asyncio.get_running_loop(), stop, runner.addresses[0][1]])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)  # run ends answers that hang
    thread.start()
    ready.wait()
    loop, stop, found = started
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
