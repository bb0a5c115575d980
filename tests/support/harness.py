"""How the end-to-end tests run the scripts, and the overrides that make a run small."""

import contextlib
import gc
import io
import logging
import os
import runpy
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol
from unittest.mock import patch

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from codiemb.stop import at_once
from tests.support.forks import METHOD, fork
from tests.support.paths import ROOT

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}


class Finished(NamedTuple):
    """What a script left behind."""

    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, script: str, *overrides: str) -> Finished: ...


MICRO = (
    "~data.sources.docs_ir",  # a copy of frames_ir here
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "tasks.ir.global_batch_size=16",
    "tasks.sts.global_batch_size=16",
    "data.num_workers=0",
    "callbacks.probe.num_records=8",
    "logger=local",
)
TWO_RANKS = ("strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2")  # as docs/devices.md has it
UNEVALUATED = ("evaluate.before=false", "evaluate.after=false")


def run_here(script: Path) -> Finished:
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        warnings.catch_warnings(),
        _logging_restored(),
        patch("gc.freeze"),  # this process goes on, and its garbage is to go
        patch.object(Hydra, "get_mode", return_value=None),  # composes, to find the hydra.mode that none sets
    ):
        warnings.simplefilter("ignore")  # third-party chatter is not what these tests are about
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except Exception:
            code = 1
            traceback.print_exc()
        finally:
            gc.enable()
            at_once.close()
            GlobalHydra.instance().clear()
    return Finished(code, stdout.getvalue(), stderr.getvalue())


class Started(NamedTuple):
    """A script in a process of its own, and where its output goes."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    def finished(self, seconds: float = 300) -> Finished:
        """Wait for its end."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, self.stderr.read_text("utf-8")
        return Finished(code, self.stdout.read_text("utf-8"), self.stderr.read_text("utf-8"))


def start_fork(folder: Path, said: Path, script: str, *overrides: str) -> Started:
    """Start `python SCRIPT OVERRIDES` in `folder`, at the head of a process group.

    A fork has imported everything: that takes another process 10 CPU s.
    """
    said.mkdir(exist_ok=True)
    stdout, stderr = (said / f"{time.monotonic_ns()}.{name}" for name in ("out", "err"))
    stdout.touch()
    process = fork(_run_forked, folder, stdout, script, overrides, output=stderr, method=METHOD)
    return Started(process, stdout, stderr)


def _run_forked(folder: Path, output: Path, script: str, overrides: tuple[str, ...]) -> None:
    os.setsid()
    os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), 1)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    os.chdir(folder)
    os.environ |= ENVIRONMENT
    sys.argv = [str(ROOT / script), *overrides]
    warnings.simplefilter("ignore")
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    """Hydra replaces the root handlers; put the old ones back and close its files."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:], root.level = handlers, level
