"""SIGTERM and Ctrl-C as requests to stop, read by the training loop between two steps."""

import _thread
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

from codiemb.stop import INTERRUPTED, SIGNALS, TERMINATED, Ears, Stopped, is_first_here, last_words

_SECONDS_TO_LEAVE = 2.0  # for the main thread, after a second Ctrl-C
_SECONDS_BETWEEN_LOOKS = 0.5
_PROMISE = "saving after this step; Ctrl-C again stops at once"
AT_ONCE = "stopped at once by a second Ctrl-C, without saving"


class StopRequest:
    """Remembers the first signal; a second Ctrl-C stops at once, for a save or a wait that takes too long.

    A thread hears of signals too, and ends the process where the main thread cannot.

    Args:
        stuck_after: seconds without a sign of life of rank 0's main thread after which a stop that was asked
            for comes without saving; None: never.
    """

    def __init__(self, stuck_after: float | None = None) -> None:
        self.signum = 0  # 0: nobody asked
        self._stuck_after = stuck_after
        self._alive_at = 0.0
        self._before_leaving: Callable[[str], None] = lambda reason: None
        self._ears: Ears | None = None

    def listen(self, before_leaving: Callable[[str], None] | None = None) -> None:
        """Take over SIGTERM and SIGINT; Python allows that in the main thread only.

        Args:
            before_leaving: called with the reason before this process is ended in the middle of something.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self.close()
        self._before_leaving = before_leaving or self._before_leaving
        for signum in SIGNALS:
            signal.signal(signum, self._note)
        self._ears = Ears(self._hear)

    def close(self) -> None:
        """Stop hearing. The handlers stay: Lightning puts the old ones back."""
        if self._ears is not None:
            self._ears.close()
            self._ears = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """The handler: in the main thread, if that is not in a call into C."""
        self._alive_at = time.monotonic()
        if signum == self.signum == signal.SIGINT:
            raise Stopped(AT_ONCE, signum, alone=True)
        if self.signum != signal.SIGINT:  # a Ctrl-C after SIGTERM counts as the first of two
            self.signum = signum

    def _hear(self, ears: socket.socket) -> None:
        """The thread: every signal is a byte, as soon as it arrives."""
        with ears:
            while signals := ears.recv(64):
                interrupts = signals.count(signal.SIGINT)
                if interrupts or signal.SIGTERM in signals:
                    break
            if not signals:
                return
            if interrupts and is_first_here():
                os.write(2, f"\n{_PROMISE}\n".encode())  # past sys.stderr, which a hanging thread may hold
            self._wait(ears, interrupts)

    def _wait(self, ears: socket.socket, interrupts: int) -> None:
        """Until the training loop has stopped; ends the process at a second Ctrl-C or if the loop hangs."""
        self._alive_at = time.monotonic()
        ears.settimeout(0.5)
        while interrupts < 2:
            self._end_if_stuck(interrupts)
            try:
                signals = ears.recv(64)
            except TimeoutError:
                _thread.interrupt_main(signal.SIGTERM)  # asks for a sign of life: runs the handler above
                continue
            if not signals:
                return
            interrupts += signals.count(signal.SIGINT)
        time.sleep(_SECONDS_TO_LEAVE)
        self._end(AT_ONCE, INTERRUPTED)

    def _end_if_stuck(self, interrupts: int) -> None:
        silent = time.monotonic() - self._alive_at
        if self._stuck_after is None or silent < self._stuck_after or not is_first_here():
            return
        name, code = ("SIGINT", INTERRUPTED) if interrupts else ("SIGTERM", TERMINATED)
        self._end(f"stopped by {name} without saving: this step has been stuck for {silent:.0f} s", code)

    def _end(self, message: str, code: int) -> None:
        if self._ears is None:
            return
        last_words.say(message)
        self._before_leaving(message)
        # what other ranks exit with would pass for a failure, and rank 0 be killed before it has spoken
        os._exit(code if is_first_here() else 0)


def serve_the_trainer(worker: int) -> None:
    """For loader workers: a signal to the whole process group must not cut the trainer off from its data.

    And one whose trainer is dead ends: torch's would stay, with batches in a pipe that nobody empties, and
    hold copies of its rank's sockets, so that collectives of the other ranks would wait on.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # the trainer's, if this is a fork of it


def end_workers() -> None:
    """At the exit of a trainer that an exception has torn out of its loop.

    Python would end them with SIGTERM, to which they are deaf, and wait for ever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a failure
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
