"""Until the ranks can talk, those of one host watch each other as parent and children.

Lightning's launcher starts ranks 1, 2, ... as children of rank 0. Where one dies (its rendezvous port is
taken, it is killed, its files cannot be read) or is frozen, the others would wait for it as long as
strategy.timeout says. torchrun and SLURM have processes of their own that end the others of a dead rank.

Nothing heavy is imported here, so that a rank can watch from its first line on.
"""

import os
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

_STARTED_BY = "CODIEMB_STARTED_BY"  # process id of rank 0, and its patience, which its children inherit
_SECONDS = 0.5  # between two looks; on any system, which a death signal of Linux's prctl is not
_GONE = ("", "Z", "X")  # states, see _state
_SECONDS_TO_LEAVE = 3.0  # for this process, which may have heard the same Ctrl-C as a rank that has left


class ParentWatch:
    """Ends this process when the one that has started it is gone or frozen, unless `stop` comes first."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def start(self) -> None:
        """In a rank that Lightning has started; nothing in others."""
        rank, started_by = os.environ.get("LOCAL_RANK", "0"), os.environ.get(_STARTED_BY)
        if rank == "0" or started_by is None or "TORCHELASTIC_RUN_ID" in os.environ:
            return
        parent, patience = (float(number) for number in started_by.split())
        arguments = (rank, int(parent), patience)
        if os.getppid() == parent or _state(int(parent)) in _GONE:
            threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def stop(self) -> None:
        """From here on somebody else watches, or the run is over."""
        self._stopped.set()

    def _watch(self, rank: str, parent: int, patience: float) -> None:
        frozen = _Frozen(patience)
        while os.getppid() == parent and not frozen.for_too_long(parent):
            if self._stopped.wait(_SECONDS):
                return
        fault = f"has been frozen for {patience:g} s" if os.getppid() == parent else "is gone"
        os.write(2, f"rank {rank} stops: process {parent}, which started it, {fault}\n".encode())
        os._exit(1)


parent_watch = ParentWatch()


class ChildWatch:
    """Calls `conclude` when a rank that this process has started is lost, unless `stop` comes first.

    Args:
        children: the ranks 1, 2, ... of this host; empty until they are started.
        patience: seconds after which a frozen one counts as lost; None: never.
        conclude: called once, in a thread, with what has happened.
    """

    def __init__(
        self,
        children: Callable[[], Sequence[subprocess.Popen]],
        patience: float | None,
        conclude: Callable[[str], None],
    ) -> None:
        self._children = children
        self._patience = float("inf") if patience is None else patience
        self._conclude = conclude
        self._stopped = threading.Event()
        os.environ[_STARTED_BY] = f"{os.getpid()} {self._patience}"
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """From here on somebody else watches, or this process leaves by itself."""
        self._stopped.set()

    def _watch(self) -> None:
        frozen = defaultdict[int, _Frozen](lambda: _Frozen(self._patience))
        faults: list[str] = []
        while not faults and not self._stopped.wait(_SECONDS):
            _silence_lightning()
            for rank, child in enumerate(self._children(), start=1):
                fault = _end_of(child)
                if not fault and frozen[child.pid].for_too_long(child.pid):
                    fault = f"has been frozen for {self._patience:g} s"
                if fault:
                    faults.append(f"rank {rank} (process {child.pid}) {fault}")
        if not self._stopped.wait(_SECONDS_TO_LEAVE):
            self._conclude(f"{', '.join(faults)} before the ranks could talk")


class _Frozen:
    """Counts looks, not seconds: a job that is suspended as a whole (Ctrl-Z) does not look."""

    def __init__(self, patience: float) -> None:
        self._looks = 0
        self._most = patience / _SECONDS

    def for_too_long(self, process: int) -> bool:
        """Whether it was stopped at each look for so long."""
        self._looks = self._looks + 1 if _state(process) in ("T", "t") else 0
        return self._looks > self._most


def _state(process: int) -> str:
    """A letter as of ps: T is stopped, empty is gone. Systems without /proc tell no more than alive."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "?"


def _end_of(child: subprocess.Popen) -> str:
    code = child.poll()
    if code is None:
        return ""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}" if code else "was stopped"


def _silence_lightning() -> None:
    """Its observer would kill this process, without a word, when a rank has ended with an error."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
