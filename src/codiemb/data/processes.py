"""Convert files side by side in processes of their own, which end with the one that started them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from codiemb.data.one_file import CacheError, Outcome
from codiemb.data.progress import Progress
from codiemb.data.source_file import SourceFile
from codiemb.errors import UserError

_MOST = 8  # without a word of the user's: each has 70 MiB
_WORTH_BYTES = 1 << 26  # of files: converted in about 3 CPU seconds; a process needs 0.3 to start
_SECONDS = 10.0  # to end in, before it is killed
_PROGRAM = ("-P", "-m", "codiemb.data.converter")  # -P: not from the folder that it is started in


def useful_processes(sizes: Sequence[int], most: int | None) -> int:
    """How many processes convert files of these sizes at once.

    Args:
        sizes: of the files, in bytes.
        most: as many, if there are as many files; None: one a CPU that this process may use, at most 8, and
            only one where all files together have less than 64 MiB.
    """
    if most is None:
        most = min(_num_cpus(), _MOST) if sum(sizes) >= _WORTH_BYTES else 1
    return min(most, len(sizes))


def convert_side_by_side(
    files: Sequence[SourceFile], cache: Path, *, skip_bad: bool, count: int, progress: Progress
) -> list[Outcome]:
    """What `convert_file` gives for each file, in the files' order.

    A process is started anew, not forked: threads and the state of a GPU stay behind. It stops at its next
    records, and leaves nothing, when this one ends, by Ctrl-C, an error or a kill.

    Raises:
        CacheError: `cache` cannot be written.
        UserError: a process was killed.
        RuntimeError: an error of ours in one of them.
    """
    outcomes: list[Outcome] = [Outcome()] * len(files)
    jobs = iter(enumerate(files))
    with _started(count) as idle:
        busy: dict[Connection, int] = {}
        while True:
            while idle and (job := next(jobs, None)) is not None:
                channel = idle.pop()
                busy[channel], file = job
                channel.send_bytes(_job(file, cache, skip_bad=skip_bad))
            if not busy:
                return outcomes
            ready = set(wait(list(busy)))
            for channel in [channel for channel in busy if channel in ready]:
                message = _received(channel, files[busy[channel]])
                if "read" in message:
                    progress.update(busy[channel], *message["read"])
                else:
                    outcomes[busy.pop(channel)] = _outcome(message)
                    idle.append(channel)


def _job(file: SourceFile, cache: Path, *, skip_bad: bool) -> bytes:
    settings = [file.name, str(file.path), file.score_range, file.in_batch]
    return json.dumps({"file": settings, "cache": str(cache), "skip_bad": skip_bad}).encode()


def _received(channel: Connection, file: SourceFile) -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(channel.recv_bytes())
    except (EOFError, OSError):
        raise UserError(
            f"{file.path}: the process that converted it was killed, maybe for want of memory; "
            "data.num_converters=1 converts one file at a time"
        ) from None
    return message


def _outcome(message: dict[str, Any]) -> Outcome:
    if "cache" in message:
        raise CacheError(message["cache"])
    if "ours" in message:
        raise RuntimeError(message["ours"])
    return Outcome.of_json(message["outcome"])


@contextmanager
def _started(count: int) -> Iterator[list[Connection]]:
    """The channels of so many processes, which are gone after the block."""
    channels: list[Connection] = []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            ours, theirs = Pipe()
            channels.append(ours)
            with theirs:
                processes.append(_start(theirs))
        yield list(channels)
    finally:
        for channel in channels:  # the sign to stop
            channel.close()
        for process in processes:
            _end(process)


def _start(channel: Connection) -> subprocess.Popen[bytes]:
    """In a process group of its own: Ctrl-C reaches this process only, which tells it to stop."""
    path = os.pathsep.join(name for name in sys.path if name)
    return subprocess.Popen(
        [sys.executable, *_PROGRAM, str(channel.fileno())],
        pass_fds=[channel.fileno()],
        env=os.environ | {"PYTHONPATH": path},
        process_group=0,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:  # its disk does not answer
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS)


def _num_cpus() -> int:
    """That this process may use; not every system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
