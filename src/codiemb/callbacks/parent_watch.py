"""A rank that Lightning has started ends with the process that started it, also before the ranks can talk.

Lightning's launcher starts ranks 1, 2, ... as children of rank 0. Where that one dies (its rendezvous port is
taken, its files cannot be read), they would wait for it as long as strategy.timeout says. torchrun and SLURM
have processes of their own that end the others.
"""

import os
import threading

_STARTED_BY = "CODIEMB_STARTED_BY"  # process id of rank 0, which its children inherit
_SECONDS = 0.5  # between two looks; on any system, which a death signal of Linux's prctl is not


class ParentWatch:
    """Ends this process when its parent is gone, unless `stop` comes first. Rank 0 only leaves its number."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        if os.environ.get("LOCAL_RANK", "0") == "0":
            os.environ[_STARTED_BY] = str(os.getpid())
        elif _STARTED_BY in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
            parent = int(os.environ[_STARTED_BY])
            if os.getppid() == parent or not _is_alive(parent):
                watch = threading.Thread(target=self._watch, args=(parent,), name="parent-watch", daemon=True)
                watch.start()

    def stop(self) -> None:
        """From here on somebody else watches."""
        self._stopped.set()

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            if self._stopped.wait(_SECONDS):
                return
        rank = os.environ["LOCAL_RANK"]
        os.write(2, f"rank {rank} stops: process {parent}, which started it, is gone\n".encode())
        os._exit(1)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
