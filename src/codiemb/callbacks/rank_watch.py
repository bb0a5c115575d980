"""Stop together: when one rank dies or hangs, every other one says which it was and ends.

A collective alone waits for its timeout (hours, for ranks may have to wait for an evaluation) or names an IP
address. Here every rank holds a TCP line to rank 0. The kernel closes a dead process's lines, so its death is
known within milliseconds, on any backend and launcher; a host that vanishes is found by keep-alive packets,
and a process that is frozen by its silence: every rank says that it is alive, from a thread of its own.

What Lightning's launcher does: rank 0 looks every five seconds whether a rank that it has started has ended
with an error, and then kills all others of its host and itself, without a word on why. It does not watch the
other way round (ranks outlive a dead rank 0), nor other hosts, nor does it notice who hangs. torchrun and
SLURM end all ranks when one dies, if told so, but do not name it or notice who hangs, either.
"""

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from selectors import EVENT_READ, DefaultSelector

from codiemb.callbacks import lines as tcp
from codiemb.callbacks.lines import Line
from codiemb.stop import INTERRUPTED, is_first_here, last_words

log = logging.getLogger(__name__)

_DONE = "done"
_ALIVE = "alive"
_STOPPED = "stopped "  # and who, and why
_DIED = " died"
_SECONDS_TO_HEAR = 2.0  # a death is known in milliseconds; whoever hears of none by then is the cause itself
_SECONDS_TO_LEAVE = 2.0  # after a second Ctrl-C elsewhere
_SECONDS_TO_NOTICE = 5.0  # for a collective to fail; some do not


class RankWatch:
    """This rank's end of the lines, watched by a thread: rank 0 has one to every rank, the others one to it.

    Args:
        lines: to other ranks.
        name: of this rank.
        timeout: seconds after which a silent host counts as dead; also what a rank that hears of a death has
            to leave by itself before it is ended.
        frozen_timeout: seconds after which a rank that says nothing counts as frozen; None: never. A long
            call into C that keeps Python's lock is silent, too.
    """

    def __init__(
        self, lines: Sequence[Line], name: str, timeout: float, frozen_timeout: float | None = None
    ) -> None:
        self._lines = lines
        self._name = name
        self._timeout = timeout
        self._frozen_timeout = frozen_timeout
        self._left = threading.Event()
        self._heard = threading.Event()
        self._noticed = threading.Event()
        self._verdict: str | None = None
        self.stopped: str | None = None  # who has left at once on a user's request, and why
        self.before_ending: Callable[[], None] = lambda: None
        for line in lines:
            _keep_alive(line.socket, timeout)
        # a forked worker of the data loader would hold a copy of the line open after its rank has died
        os.register_at_fork(after_in_child=functools.partial(_close, lines))
        threading.Thread(target=self._listen, name="rank-watch", daemon=True).start()

    def leave(self) -> None:
        """This rank is done: that its lines break is no death."""
        self._left.set()
        self._tell(_DONE)

    def stop(self, reason: str) -> None:
        """This rank leaves at once since a user said so: the others leave, too, and call it no failure."""
        if not self._heard.is_set():
            self._left.set()
            self._tell(f"{_STOPPED}{self._name}: {reason}")

    def blame(self, error: BaseException) -> str | None:
        """The death behind this rank's error; None if it is its own fault, of which the others then hear."""
        self._noticed.set()
        if self._heard.wait(_SECONDS_TO_HEAR):
            return self._verdict
        self._left.set()
        reason = str(error).strip().partition("\n")[0]
        self._tell(f"{self._name} failed: {type(error).__name__}: {reason}")
        return None

    def _tell(self, message: str) -> None:
        for line in self._lines:
            line.send(message)

    def _listen(self) -> None:
        """Until all other ranks are done, or one of them is at fault."""
        pulse = _Pulse(self._lines, self._frozen_timeout)
        with DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line, EVENT_READ, line)
            arrived = [(line, line.waiting) for line in self._lines]
            while True:
                for line, messages in arrived:
                    pulse.hear(line)
                    if (verdict := _verdict(line, messages)) == _DONE:
                        selector.unregister(line)
                        pulse.end(line)
                    elif verdict is not None:
                        self._conclude(verdict)
                        return
                if not pulse.heard_at:
                    return
                if (frozen := pulse.beat()) is not None:
                    self._conclude(f"{frozen.other} hangs: no sign of life for {self._frozen_timeout:g} s")
                    return
                arrived = [(key.data, key.data.receive()) for key, _ in selector.select(pulse.seconds_left())]

    def _conclude(self, verdict: str) -> None:
        """Pass it on, let the main thread leave with its own error, and end this process if it cannot."""
        if self._left.is_set():
            return
        self._tell(verdict)
        if verdict.startswith(_STOPPED):
            self.stopped = verdict.removeprefix(_STOPPED)
            self._verdict = f"{self.stopped}; {self._name} stops, too"
            log.warning("%s", self._verdict)
        else:
            self._verdict = f"{verdict}. Its own output may say why; {self._name} stops"
            log.error("%s", self._verdict)
            last_words.say("", rank_0_is_dead=verdict.startswith("rank 0 ") and verdict.endswith(_DIED))
        self._heard.set()
        if self.stopped:
            time.sleep(_SECONDS_TO_LEAVE)
        else:
            at_once = min(_SECONDS_TO_NOTICE, self._timeout)
            if self._noticed.wait(at_once):  # then loggers have something to send
                time.sleep(self._timeout - at_once)
        last_words.say(self._verdict)
        self.before_ending()
        os._exit(self._exit_code())  # the main thread hangs in a collective, where no exception reaches it

    def _exit_code(self) -> int:
        if self.stopped is None:
            return 1
        return INTERRUPTED if is_first_here() else 0  # a launcher takes another rank's code for a failure


class _Pulse:
    """When this rank says that it is alive, and who has not said so for too long."""

    def __init__(self, lines: Sequence[Line], timeout: float | None) -> None:
        now = time.monotonic()
        self.heard_at = dict.fromkeys(lines, now)
        self._timeout = timeout
        self._every = 0.0 if timeout is None else timeout / 5
        self._beat_at = now

    def hear(self, line: Line) -> None:
        """Whatever it says, it is alive."""
        self.heard_at[line] = time.monotonic()

    def end(self, line: Line) -> None:
        """Nothing more will come from there."""
        del self.heard_at[line]

    def seconds_left(self) -> float | None:
        """Until the next beat."""
        return None if self._timeout is None else max(0.0, self._beat_at + self._every - time.monotonic())

    def beat(self) -> Line | None:
        """If it is time, tell all others; return one that has been silent too long."""
        late = time.monotonic() - self._beat_at - self._every
        if self._timeout is None or late < 0:
            return None
        self._beat_at = now = time.monotonic()
        if late > self._every:  # this process was frozen itself (Ctrl-Z): it has not listened
            self.heard_at = dict.fromkeys(self.heard_at, now)
        for line in self.heard_at:
            line.send(_ALIVE)
        return next((line for line, at in self.heard_at.items() if now - at > self._timeout), None)


def accept(
    door: socket.socket, num_ranks: int, timeout: float, password: str, frozen_timeout: float | None = None
) -> RankWatch | None:
    """Rank 0's watch, once all others have called; None if one has not called in time."""
    name = _name(0)
    lines = tcp.answer(door, num_ranks - 1, timeout, password, name)
    if len(lines) == num_ranks - 1:
        return RankWatch(lines, name, timeout, frozen_timeout)
    for line in lines:
        line.send(_DONE)
        line.close()
    return None


def call(
    port: int, rank: int, timeout: float, password: str, frozen_timeout: float | None = None
) -> RankWatch | None:
    """Another rank's watch: a line to rank 0; None if it is not let in."""
    name = _name(rank)
    line = tcp.call(port, timeout, password, name)
    return None if line is None else RankWatch([line], name, timeout, frozen_timeout)


def _verdict(line: Line, messages: list[str] | None) -> str | None:
    if messages is None:
        return f"{line.other}{_DIED}"
    return next((message for message in messages if message != _ALIVE), None)


def _name(rank: int) -> str:
    return f"rank {rank} (host {socket.gethostname()}, process {os.getpid()})"


def _close(lines: Sequence[Line]) -> None:
    for line in lines:
        line.close()


def _keep_alive(line: socket.socket, timeout: float) -> None:
    """Ask after half of the timeout in silence, three times. Systems without such options use their own."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = {"TCP_KEEPIDLE": timeout / 2, "TCP_KEEPINTVL": timeout / 6, "TCP_KEEPCNT": 3}
    for option, value in seconds.items():
        if hasattr(socket, option):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), max(1, int(value)))
