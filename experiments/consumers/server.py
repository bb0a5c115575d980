"""Serve exports with infinity, which speaks OpenAI's protocol and knows no prompts; compare its answers."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ["infinity-emb[torch,server]==0.0.78"]
ADDRESS = "127.0.0.1:7997"  # as the page has it
_SHOWN = ("infinity-emb", "sentence-transformers", "transformers")
_OPTIONS = ["--device", "cpu", "--dtype", "float32", "--no-bettertransformer", "--no-model-warmup"]


def ask(folder: Path, python: Path, block: str) -> dict[str, Any]:
    """The differences by export, kind of texts and side; of what cannot be served, how it is refused.

    Args:
        folder: with `exports`.
        python: of the server's environment.
        block: the page's code, a function `embed(texts, side)`.
    """
    refuses, differences = {}, {}
    for file in sorted((folder / "exports").glob("*.json")):
        export = file.with_suffix("")
        expected = json.loads(file.read_text("utf-8"))
        try:
            with serving(python, export) as address:
                differences[export.name] = _measure(block, address, export, expected)
        except ChildProcessError as error:
            refuses[export.name] = str(error).replace(f"{folder}/", "")
    return {"differences": differences, "refuses": refuses, "versions": _versions(python)}


def _measure(block: str, address: str, export: Path, expected: dict[str, Any]) -> dict[str, float]:
    code = block.replace(ADDRESS, address).replace("outputs/finetune/export", str(export))
    names: dict[str, Any] = {}
    exec(compile(code, "docs/usage.md", "exec"), names)
    found = {}
    for kind, texts in expected["texts"].items():
        for side, plural in (("query", "queries"), ("document", "documents")):
            rows = np.asarray(names["embed"](texts, side))
            found[f"{kind}, {plural}"] = float(np.abs(rows - np.asarray(expected[side][kind])).max())
    return found


@contextmanager
def serving(python: Path, export: Path, seconds: float = 900) -> Iterator[str]:
    """The server's address, until the block ends.

    Raises:
        ChildProcessError: it ended before it answered, with its last line.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python.parent / "infinity_emb", "v2", "--model-id", export, "--served-model-name", "mine"]
    command += ["--url-prefix", "/v1", "--port", str(port), *_OPTIONS]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
    log = export.with_suffix(".log")
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=clean) as process,
    ):
        try:
            _wait(process, f"http://127.0.0.1:{port}/v1/models", seconds, log)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen, url: str, seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    lines = [line.strip() for line in log.read_text("utf-8").splitlines() if "Error" in line]
    raise ChildProcessError(lines[-1][:300] if lines else f"no answer in {seconds:.0f} s")


def _versions(python: Path) -> dict[str, str]:
    code = f"import importlib.metadata as m, json; print(json.dumps({{p: m.version(p) for p in {_SHOWN}}}))"
    answer: dict[str, str] = json.loads(subprocess.check_output([python, "-c", code], text=True))
    return {f"{name} (server)": number for name, number in answer.items()}
