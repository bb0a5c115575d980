"""Stop together: when one rank dies, every other one says which it was and ends.

A collective alone waits for its timeout (hours, for ranks may have to wait for an evaluation) or names an IP
address. Here every rank holds a TCP line to rank 0. The kernel closes a dead process's lines, so its death is
known within milliseconds, on any backend and launcher; a host that vanishes is found by keep-alive packets.
"""

import contextlib
import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable
from selectors import EVENT_READ, DefaultSelector

log = logging.getLogger(__name__)

_DONE = "done"
_SECONDS_TO_HEAR = 2.0  # a death is known in milliseconds; whoever hears of none by then is the cause itself


class RankWatch:
    """This rank's end of the lines, watched by a thread: rank 0 has one to every rank, the others one to it.

    Args:
        lines: by open socket, the name of the rank at its other end.
        name: of this rank.
        timeout: seconds after which a silent host counts as dead; also what a rank that hears of a death has
            to leave by itself before it is ended.
    """

    def __init__(self, lines: dict[socket.socket, str], name: str, timeout: float) -> None:
        self._lines = lines
        self._name = name
        self._timeout = timeout
        self._left = threading.Event()
        self._heard = threading.Event()
        self._verdict: str | None = None
        for line in lines:
            _keep_alive(line, timeout)
        # a forked worker of the data loader would hold a copy of the line open after its rank has died
        os.register_at_fork(after_in_child=functools.partial(_close, lines))
        threading.Thread(target=self._listen, name="rank-watch", daemon=True).start()

    def leave(self) -> None:
        """This rank is done: that its lines break is no death."""
        self._left.set()
        _tell(self._lines, _DONE)

    def blame(self, error: BaseException) -> str | None:
        """The death behind this rank's error; None if it is its own fault, of which the others then hear."""
        if self._heard.wait(_SECONDS_TO_HEAR):
            return self._verdict
        self._left.set()
        reason = str(error).strip().partition("\n")[0]
        _tell(self._lines, f"{self._name} failed: {type(error).__name__}: {reason}")
        return None

    def _listen(self) -> None:
        open_lines = dict(self._lines)
        with DefaultSelector() as selector:
            for line in open_lines:
                selector.register(line, EVENT_READ, line)
            while open_lines:
                for key, _ in selector.select():
                    selector.unregister(key.data)
                    name, message = open_lines.pop(key.data), _receive(key.data)
                    if message != _DONE:
                        self._conclude(message or f"{name} died")
                        return

    def _conclude(self, verdict: str) -> None:
        """Pass it on, let the main thread leave with its own error, and end this process if it cannot."""
        if self._left.is_set():
            return
        _tell(self._lines, verdict)
        self._verdict = f"{verdict}. Its own output may say why; {self._name} stops"
        log.error("%s", self._verdict)
        self._heard.set()
        time.sleep(self._timeout)
        os._exit(1)  # the main thread hangs in a collective, where no exception reaches it


def listen() -> socket.socket:
    """Rank 0's door: a listening socket on a free port of all its addresses, as torch.distributed's own."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def accept(door: socket.socket, num_ranks: int, timeout: float, password: str) -> RankWatch | None:
    """Rank 0's watch, once all others have called; None if one has not called in time."""
    name = _name(0)
    lines: dict[socket.socket, str] = {}
    with door:
        deadline = time.monotonic() + timeout
        while len(lines) < num_ranks - 1:
            try:
                door.settimeout(max(0.01, deadline - time.monotonic()))
                line, _ = door.accept()
            except TimeoutError:
                _tell(lines, _DONE)
                _close(lines)
                return None
            line.settimeout(timeout)
            sent, _, caller = _receive(line).partition(" ")
            if sent == password:  # the port is open to whoever reaches this host
                lines[line] = caller
                _send(line, name)
                line.settimeout(None)
            else:
                line.close()
    return RankWatch(lines, name, timeout)


def call(port: int, rank: int, timeout: float, password: str) -> RankWatch | None:
    """Another rank's watch: a line to rank 0, where torch.distributed found it; None if it is not let in."""
    name = _name(rank)
    try:
        line = socket.create_connection((os.environ["MASTER_ADDR"], port), timeout)
    except OSError:
        return None
    _send(line, f"{password} {name}")
    if host := _receive(line):
        line.settimeout(None)
        return RankWatch({line: host}, name, timeout)
    line.close()
    return None


def _name(rank: int) -> str:
    return f"rank {rank} (host {socket.gethostname()}, process {os.getpid()})"


def _tell(lines: Iterable[socket.socket], message: str) -> None:
    for line in lines:
        _send(line, message)


def _close(lines: Iterable[socket.socket]) -> None:
    for line in lines:
        line.close()


def _send(line: socket.socket, message: str) -> None:
    with contextlib.suppress(OSError):  # the other end has left first
        line.sendall(message.replace("\n", " ").encode() + b"\n")


def _receive(line: socket.socket) -> str:
    """One message; empty if the line has broken."""
    message = bytearray()
    while not message.endswith(b"\n"):
        try:
            byte = line.recv(1)
        except OSError:
            byte = b""
        if not byte:
            return ""
        message += byte
    return message.decode(errors="replace").strip()


def _keep_alive(line: socket.socket, timeout: float) -> None:
    """Ask after half of the timeout in silence, three times. Systems without such options use their own."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = {"TCP_KEEPIDLE": timeout / 2, "TCP_KEEPINTVL": timeout / 6, "TCP_KEEPCNT": 3}
    for option, value in seconds.items():
        if hasattr(socket, option):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), max(1, int(value)))
