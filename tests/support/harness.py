"""How the end-to-end tests run the scripts, and the overrides that make a run small."""

import contextlib
import io
import logging
import runpy
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from hydra.core.global_hydra import GlobalHydra

from codiemb.stop import at_once

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
            at_once.close()
            GlobalHydra.instance().clear()
    return Finished(code, stdout.getvalue(), stderr.getvalue())


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
