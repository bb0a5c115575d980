"""The step against a real server through a proxy that plays faults, killed twice: are the bytes the same?

    python -m experiments.synthesise.faults --model data/tiny_writer --in data/own/clean --count 60

Three runs: straight to `transformers serve`; through the proxy, where every third request meets a fault (429
with Retry-After, 500, silence, a cut connection, half JSON) and the step is killed (SIGKILL) twice; and once
more with the server gone, from the ledger alone. At temperature 0, for a server that samples for several at a
time gives other answers each time.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import ClientSession, web

from data_prep.manifest import hash_file
from experiments.synthesise.loopback import HALVES, half, in_a_thread
from experiments.synthesise.writer import MAX_CHARACTERS, PROMPT, served

_FAULTS = ("429", "500", "silence", *HALVES)
_SILENCE = 3.0  # seconds; the step waits for less
_NOT_COMPARED = ("manifest.json",)  # it names the address


class Proxy:
    """Passes requests on, or not.

    Attributes:
        met: how often each fault was played.
        answered: how often each request was answered in full.
    """

    def __init__(self, target: str) -> None:
        self._target, self._number = target, count(1)
        self.met, self.answered = Counter[str](), Counter[bytes]()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body, number = await request.read(), next(self._number)
        fault = _FAULTS[number // 3 % len(_FAULTS)] if number % 3 == 0 else ""
        self.met[fault or "none"] += 1
        if fault == "429":
            return web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.2"}
            )
        if fault == "500":
            return web.json_response({"error": {"message": "oh"}}, status=500)
        if fault == "silence":
            await asyncio.sleep(_SILENCE)
        async with (
            ClientSession() as session,
            session.post(
                f"{self._target}/chat/completions", data=body, headers={"Content-Type": "application/json"}
            ) as reply,
        ):
            whole = await reply.read()
        if fault in HALVES:
            return await half(request, whole, fault)
        self.answered[body] += fault == ""
        return web.Response(body=whole, status=reply.status, content_type="application/json")


@contextmanager
def proxied(target: str, port: int) -> Iterator[Proxy]:
    """A proxy in a thread."""
    proxy = Proxy(target)
    with in_a_thread(proxy.handle, port):
        yield proxy


def main() -> None:
    """Run all three, and print what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("data/tiny_writer"))
    parser.add_argument("--in", dest="source", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--port", type=int, default=8124)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        with (
            served(given.model, given.port, folder / "serve.log") as url,
            proxied(url, given.port + 1) as proxy,
        ):
            _finish(_start(given, folder / "straight", url))
            through = f"http://127.0.0.1:{given.port + 1}/v1"
            ledger = folder / f"faults.ledger/{given.model.name}.jsonl"
            for share in (3, 2):
                _kill(_start(given, folder / "faults", through), ledger, given.count // share)
            with ledger.open("ab") as file:
                file.write(b'{"key": "half a line')
            _finish(_start(given, folder / "faults", through))
        _finish(_start(given, folder / "again", "http://127.0.0.1:9/v1", "--ledger", str(ledger)))
        straight, faults, again = (_hashes(folder / each) for each in ("straight", "faults", "again"))
        lines = ledger.read_bytes().count(b"\n") - 1
    print("requests by fault:", json.dumps(proxy.met))
    print(
        "answered in full, by how often:",
        json.dumps(Counter(proxy.answered.values())),
        f"; {lines} in the ledger",
    )
    print(
        "same bytes through faults and two kills:",
        straight == faults,
        "; from the ledger alone:",
        again == faults,
    )


def _start(given: argparse.Namespace, out: Path, url: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "data_prep", "synthesise", "--in", given.source, "--out", out]
    command += [
        "--recipe",
        PROMPT,
        "--max-characters",
        str(MAX_CHARACTERS),
        "--max-answer-tokens",
        "80",
        "--temperature",
        "0",
    ]
    command += ["--count", str(given.count), "--endpoint", url, "--model", given.model.name, "--tries", "2"]
    command += ["--concurrency", "4", "--timeout-seconds", "2.5", "--first-wait-seconds", "0.1"]
    return subprocess.Popen([*map(str, command), "--max-attempts", "12", *more], env=os.environ)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise SystemExit("the step failed")


def _kill(process: subprocess.Popen[bytes], ledger: Path, lines: int) -> None:
    while process.poll() is None and not (ledger.is_file() and ledger.read_bytes().count(b"\n") > lines):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_COMPARED]
    return {str(path.relative_to(folder)): hash_file(path) for path in files}


if __name__ == "__main__":
    main()
