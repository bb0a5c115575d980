"""SIGTERM and Ctrl-C as requests to stop, read by the training loop between two steps."""

import os
import signal
import threading
from types import FrameType

_INTERRUPTED = 130  # what a shell reports for Ctrl-C


class Stopped(SystemExit):
    """Training ended on request, its state saved: exit code 0 after SIGTERM, 130 after Ctrl-C."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(_INTERRUPTED if signum == signal.SIGINT else 0)
        self.message = message


class StopRequest:
    """Remembers the first signal; a second Ctrl-C interrupts at once, for a save that takes too long."""

    def __init__(self) -> None:
        self.signum = 0  # 0: nobody asked

    def listen(self) -> None:
        """Take over SIGTERM and SIGINT; Python allows that in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == self.signum == signal.SIGINT:
            raise KeyboardInterrupt
        if signum == signal.SIGINT and os.environ.get("LOCAL_RANK", "0") == "0":
            # not through sys.stderr: a handler may interrupt a write to it
            os.write(2, b"\nsaving after this step; Ctrl-C again stops at once\n")
        self.signum = signum


def leave_signals_to_the_trainer(worker: int) -> None:
    """For loader workers: a signal to the whole process group must not cut the trainer off from its data."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
