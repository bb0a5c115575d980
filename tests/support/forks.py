"""Processes that are frozen, killed and interrupted: forked, so that they need not import torch again."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# for processes that compute gradients: autograd has threads for each card, and a fork has none of them
METHOD = "spawn" if Path("/dev/nvidiactl").exists() else "fork"


def fork(function: Callable[..., None], *arguments: Any, output: Path, method: str = "fork") -> BaseProcess:
    """Start `function` in a fork whose stderr and log go to a file."""
    context = multiprocessing.get_context(method)
    process: Any = context.Process(target=_run, args=(function, arguments, output))
    process.start()
    return process


@contextlib.contextmanager
def forks(
    function: Callable[..., None], output: Path, ready: str
) -> Iterator[Callable[..., tuple[BaseProcess, Path]]]:
    """What starts forks of `function`, each once it has said `ready`; all end with the context."""
    processes = []

    def start(*arguments: Any) -> tuple[BaseProcess, Path]:
        processes.append(fork(function, *arguments, output=output))
        wait_for(output, ready)
        return processes[-1], output

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(function: Callable[..., None], arguments: tuple[Any, ...], output: Path) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    logging.basicConfig(force=True, stream=sys.__stderr__, format="%(message)s")  # not pytest's handlers
    try:
        function(*arguments)
    except SystemExit as stop:
        os._exit(stop.code)
    os._exit(0)


def hang() -> None:
    """Wait in C, as in a collective: Python's lock is free, and no handler of a signal ever runs."""
    mutex = ctypes.create_string_buffer(256)  # zeros are an unlocked pthread_mutex_t
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


def wait_for(file: Path, text: str, seconds: float = 30.0) -> str:
    """What a file says, once it says `text`."""
    deadline = time.monotonic() + seconds
    while not (file.is_file() and text in file.read_text("utf-8")):
        assert time.monotonic() < deadline, file.is_file() and file.read_text("utf-8")
        time.sleep(0.01)
    return file.read_text("utf-8")
