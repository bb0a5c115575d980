"""What does the client of synthesise cost a request, beside the plain openai client, 64 at a time?

    python -m experiments.benchmarks.synthesise             # about 2 minutes on a quiet core
    python -m experiments.benchmarks.synthesise --quick     # does it run at all?

The server is a process of its own that answers at once, so that all time is the client's. Ours keeps a ledger
that is flushed to the disk, hashes requests and reads answers from JSON; the peer is AsyncOpenAI with a
semaphore and asyncio.gather. They take turns. Writes synthesise.md.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from codiemb.tables import pipe_table
from data_prep.endpoint.options import EndpointOptions
from data_prep.endpoint.request import Request
from data_prep.endpoint.session import Ask, Session
from experiments.benchmarks.machine import page

_CONCURRENCY = 64
_PASSAGE = "A passage of some length, as they are in a corpus that queries are written for. " * 20
_HEADER = ["", "CPU ms a request", "least", "most", "wall ms a request"]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="70 requests, one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    count, rounds = (70, 1) if given.quick else (given.requests, given.rounds)
    ports: Queue[int] = multiprocessing.get_context("fork").Queue()
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(ports,), daemon=True)
    server.start()
    try:
        table = _measured(f"http://127.0.0.1:{ports.get()}/v1", count, rounds)
    finally:
        server.terminate()
        server.join()
    about = f"""{count:,} requests of some 1,600 characters a round, {_CONCURRENCY} at a time, to a server on
        this machine that answers at once; medians of {rounds} rounds in turns. CPU time of the client's
        process; wall time has the server's in it. Ours writes each answer to a ledger that is flushed to the
        disk. It is the openai client, too, on aiohttp, with a reader of our own for the answers."""
    packages = ["openai", "tenacity", "aiolimiter", "aiohttp"]
    given.out.write_text(page("The client of synthesise", [about, table], packages), "utf-8")
    print(given.out.read_text("utf-8"))


def _measured(url: str, count: int, rounds: int) -> str:
    sides: dict[str, Callable[[str, list[str]], None]] = {"codiemb": _ours, "openai alone": _plain}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            texts = [f"{turn} {index} {_PASSAGE}" for index in range(count)]
            cpu, wall = time.process_time(), time.perf_counter()
            side(url, texts)
            if turn:  # the first is for imports
                spent = time.process_time() - cpu, time.perf_counter() - wall
                taken[name].append((1000 * spent[0] / count, 1000 * spent[1] / count))
    rows = [_HEADER]
    for name, found in taken.items():
        cpus, walls = zip(*found, strict=True)
        numbers = [statistics.median(cpus), min(cpus), max(cpus), statistics.median(walls)]
        rows.append([name, *(f"{number:.2f}" for number in numbers)])
    return pipe_table(rows)


def _ours(url: str, texts: list[str]) -> None:
    options = EndpointOptions(endpoint=url, model="m", concurrency=_CONCURRENCY, key_variable="none")

    async def ask_for(ask: Ask, text: str) -> str:
        return (await ask(Request([{"role": "user", "content": text}]))).text

    with TemporaryDirectory() as folder, Session.opened(options, Path(folder) / "ledger.jsonl") as session:
        session.map(texts, ask_for)


def _plain(url: str, texts: list[str]) -> None:
    asyncio.run(_gathered(url, texts))


async def _gathered(url: str, texts: list[str]) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def ask_for(text: str) -> str | None:
            messages: Any = [{"role": "user", "content": text}]
            async with slots:
                answer = await client.chat.completions.create(
                    model="m", messages=messages, temperature=0.7, max_tokens=1024, seed=0
                )
            return answer.choices[0].message.content

        await asyncio.gather(*map(ask_for, texts))


def _serve(ports: "Queue[int]") -> None:
    text = '{"query": "what is a passage of some length in a corpus"}'
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420}
    reply: dict[str, Any] = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    reply |= {"choices": [choice], "usage": usage}

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(reply)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


if __name__ == "__main__":
    main()
