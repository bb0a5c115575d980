"""How a process ends on SIGTERM or Ctrl-C: its last words, its exit code, and an end at once.

Nothing heavy is imported here, so that a run can listen from its first line on.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

INTERRUPTED = 130  # what a shell reports for Ctrl-C
TERMINATED = 143  # and for SIGTERM
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS_TO_HEAR = 2.0  # for the main thread, which may wait in C for other ranks
_SECONDS_TO_LEAVE = 30.0  # once it has heard: loggers may have something to send


class Stopped(SystemExit):
    """A run ended on request: exit code 130 after Ctrl-C; after SIGTERM 0 if it has saved, else 143.

    Attributes:
        message: what happened, for the user.
        alone: this rank leaves at once, whatever the others do; otherwise all have agreed, and saved.
    """

    def __init__(self, message: str, signum: int, *, alone: bool = False) -> None:
        super().__init__(INTERRUPTED if signum == signal.SIGINT else TERMINATED if alone else 0)
        self.message = message
        self.alone = alone


class RankLost(Exception):
    """Another rank died, failed or hangs, as RankWatch has said already."""


class LastWords:
    """What the main process says at its end, once: its main thread, or another if that one hangs."""

    def __init__(self) -> None:
        self._how_to_go_on = ""
        self._said = threading.Lock()

    def prepare(self, how_to_go_on: str) -> None:
        """For a run that begins, and whose command line is known: what to type to continue it, or nothing."""
        self._how_to_go_on = how_to_go_on
        self._said = threading.Lock()

    def say(self, message: str, *, rank_0_is_dead: bool = False) -> None:
        """Write the message and how to go on, past whatever buffers a hanging thread may have locked.

        An empty message has been said already. The next rank speaks for a rank 0 that is dead.
        """
        speaks = is_first_here() or (rank_0_is_dead and os.environ["LOCAL_RANK"] == "1")
        if speaks and self._said.acquire(blocking=False):
            go_on = f"continue with: {self._how_to_go_on}\n" if self._how_to_go_on else ""
            os.write(2, f"\n{message}\n{go_on}".encode() if message else go_on.encode())


last_words = LastWords()


class Ears:
    """Hears signals in a thread, each as a byte.

    A handler of Python runs in the main thread, between two calls into C: never, where that thread waits for
    a rank that hangs.

    Args:
        hear: what the thread does; it reads the socket, whose end is `close`.
    """

    def __init__(self, hear: Callable[[socket.socket], None]) -> None:
        self.socket, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._before = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(hear,), name="signals", daemon=True).start()

    def _listen(self, hear: Callable[[socket.socket], None]) -> None:
        with self.socket:
            hear(self.socket)

    def close(self) -> None:
        """Leave hearing to whoever heard before."""
        signal.set_wakeup_fd(self._before)
        self._bell.shutdown(socket.SHUT_RDWR)  # a forked worker may hold a copy
        self._bell.close()  # the thread reads the end of its line


class AtOnce:
    """Outside of the training loop there is nothing to save: the first SIGTERM or Ctrl-C ends the process.

    While modules are imported, in the handler itself: an exception would come out of some import as another
    one. In a job by an exception, so that loggers are closed; a thread ends what does not hear or heed it.

    Attributes:
        before_leaving: called before this process is ended in the middle of something.
    """

    def __init__(self) -> None:
        self.before_leaving: Callable[[], None] = lambda: None
        self._ears: Ears | None = None
        self._before: dict[signal.Signals, Any] = {}  # handlers
        self._in_job = False
        self._has_raised = False
        self._said = "stopped by {} before anything was done: the same command starts it"

    def listen(self) -> None:
        """From here on; a fork of this process (a loader's worker) dies of signals, silently."""
        self._before = {signum: signal.signal(signum, self._leave) for signum in SIGNALS}
        os.register_at_fork(after_in_child=_hear_nothing)
        self._ears = Ears(self._hear)

    def close(self) -> None:
        """Leave signals to whoever had them before: for a process that goes on after the run, as tests do."""
        if self._ears is not None:
            self._ears.close()
            self._ears = None
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextlib.contextmanager
    def in_job(self) -> Iterator[None]:
        """Signals are exceptions in here."""
        self._in_job, self._said = True, "stopped by {}"
        try:
            yield
        finally:
            self._in_job = False

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Modules are imported in here, in the middle of a job."""
        before, self._in_job = self._in_job, False
        try:
            yield
        finally:
            self._in_job = before

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        if not self._in_job:
            self._end(signum)
        elif not self._has_raised:  # a second one is the thread's
            self._has_raised = True
            raise Stopped(self._said.format(signal.Signals(signum).name), signum, alone=True)

    def _hear(self, ears: socket.socket) -> None:
        if (signum := _next(ears, None)) is None:
            return
        again = _next(ears, _SECONDS_TO_HEAR)
        if again is None and self._has_raised:
            again = _next(ears, _SECONDS_TO_LEAVE)
        self._end(again or signum)

    def _end(self, signum: int) -> None:
        last_words.say(self._said.format(signal.Signals(signum).name))
        self.before_leaving()
        # what other ranks exit with would pass for a failure, and rank 0 be killed before it has spoken
        os._exit(128 + signum if is_first_here() else 0)


at_once = AtOnce()


def is_first_here() -> bool:
    """Whether this process is the one of its host that speaks for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _hear_nothing() -> None:
    signal.set_wakeup_fd(-1)  # the parent's
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


def _next(ears: socket.socket, timeout: float | None) -> int | None:
    """The next SIGTERM or SIGINT; None if none comes in time."""
    ears.settimeout(timeout)
    try:
        while heard := ears.recv(1):
            if heard[0] in SIGNALS:
                return heard[0]
    except TimeoutError:
        pass
    return None
