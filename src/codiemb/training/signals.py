"""SIGTERM and Ctrl-C as requests to stop, read by the training loop between two steps."""

import _thread
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130  # what a shell reports for Ctrl-C
_TERMINATED = 143  # and for SIGTERM
_SECONDS_TO_LEAVE = 2.0  # for the main thread, after a second Ctrl-C
_PROMISE = "saving after this step; Ctrl-C again stops at once"
AT_ONCE = "stopped at once by a second Ctrl-C, without saving"


class Stopped(SystemExit):
    """Training ended on request: exit code 0 after SIGTERM, 130 after Ctrl-C.

    Attributes:
        message: what happened, for the user.
        alone: this rank leaves at once, whatever the others do; otherwise all have agreed, and saved.
    """

    def __init__(self, message: str, signum: int, *, alone: bool = False) -> None:
        super().__init__(INTERRUPTED if signum == signal.SIGINT else 0)
        self.message = message
        self.alone = alone


class LastWords:
    """What the main process says at its end, once: its main thread, or another if that one hangs."""

    def __init__(self) -> None:
        self._how_to_go_on = ""
        self._said = threading.Lock()

    def prepare(self, how_to_go_on: str) -> None:
        """For a run that begins, and whose command line is known: what to type to continue it, or nothing."""
        self._how_to_go_on = how_to_go_on
        self._said = threading.Lock()

    def say(self, message: str) -> None:
        """Write the message and how to go on, past whatever buffers a hanging thread may have locked."""
        if is_first_here() and self._said.acquire(blocking=False):
            go_on = f"continue with: {self._how_to_go_on}\n" if self._how_to_go_on else ""
            os.write(2, f"\n{message}\n{go_on}".encode())


last_words = LastWords()


class StopRequest:
    """Remembers the first signal; a second Ctrl-C stops at once, for a save or a wait that takes too long.

    A handler of Python runs in the main thread, between two calls into C: never, where that thread waits for
    a rank that hangs. So a thread of its own hears of signals too, and ends the process where the main
    thread cannot.

    Args:
        stuck_after: seconds without a sign of life of rank 0's main thread after which a stop that was asked
            for comes without saving; None: never.
    """

    def __init__(self, stuck_after: float | None = None) -> None:
        self.signum = 0  # 0: nobody asked
        self._stuck_after = stuck_after
        self._alive_at = 0.0
        self._before_leaving: Callable[[str], None] = lambda reason: None
        self._ears: socket.socket | None = None
        self._bell: socket.socket | None = None

    def listen(self, before_leaving: Callable[[str], None] | None = None) -> None:
        """Take over SIGTERM and SIGINT; Python allows that in the main thread only.

        Args:
            before_leaving: called with the reason before this process is ended in the middle of something.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self.close()
        self._before_leaving = before_leaving or self._before_leaving
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._note)
        self._ears, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(self._ears,), name="signals", daemon=True).start()

    def close(self) -> None:
        """Stop hearing. The handlers stay: Lightning puts the old ones back."""
        if self._bell is not None:
            signal.set_wakeup_fd(-1)
            self._bell.shutdown(socket.SHUT_RDWR)  # a forked worker may hold a copy
            self._bell.close()  # the thread reads the end of its line
            self._ears = self._bell = None

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
        name, code = ("SIGINT", INTERRUPTED) if interrupts else ("SIGTERM", _TERMINATED)
        self._end(f"stopped by {name} without saving: this step has been stuck for {silent:.0f} s", code)

    def _end(self, message: str, code: int) -> None:
        if self._ears is None:
            return
        last_words.say(message)
        self._before_leaving(message)
        # what other ranks exit with would pass for a failure, and rank 0 be killed before it has spoken
        os._exit(code if is_first_here() else 0)


def is_first_here() -> bool:
    """Whether this process is the one of its host that speaks for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def leave_signals_to_the_trainer(worker: int) -> None:
    """For loader workers: a signal to the whole process group must not cut the trainer off from its data."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # the trainer's, if this is a fork of it
