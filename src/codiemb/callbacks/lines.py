"""Lines between rank 0 and every other rank: short messages over TCP, from whoever knows the password."""

import contextlib
import os
import resource
import socket
import time
from hmac import compare_digest
from selectors import EVENT_READ, DefaultSelector

_MAX_BYTES = 1024  # of one message: a name, or the first line of an error
_MAX_SILENT = 512  # callers that have not said the password yet
_SECONDS_TO_SEND = 1.0  # a frozen rank reads nothing


class Line:
    """One end of a line.

    Attributes:
        socket: open.
        other: name of the rank at the other end; empty until it is known.
        waiting: messages that came together with that name.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.other = ""
        self.waiting: list[str] = []
        self._received = b""
        connected.settimeout(_SECONDS_TO_SEND)

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, message: str) -> None:
        """One message, cut where it is too long; lost if the other end has left or does not read."""
        data = message.replace("\n", " ").encode()[: _MAX_BYTES - 1] + b"\n"
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def receive(self) -> list[str] | None:
        """The messages that have come whole, after one read; None if the line has broken.

        A message that is too long breaks the line: no rank sends one.
        """
        try:
            data = self.socket.recv(_MAX_BYTES)
        except TimeoutError:
            return []
        except OSError:
            return None
        *messages, self._received = (self._received + data).split(b"\n")
        if not messages and (not data or len(self._received) >= _MAX_BYTES):
            return None
        return [message.decode(errors="replace") for message in messages]

    def close(self) -> None:
        """Break it."""
        self.socket.close()


def listen() -> socket.socket:
    """Rank 0's door: a listening socket on a free port of all its addresses, as torch.distributed's own."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    return socket.create_server(("", 0), backlog=512)


def answer(door: socket.socket, num_callers: int, timeout: float, password: str, name: str) -> list[Line]:
    """Rank 0's lines: to all callers with the password, or to those that have called in time. Shuts the door.

    The port is open to whoever reaches this host. Who says nothing, or the wrong word, or too much, holds
    nobody up.
    """
    _allow_files(num_callers)
    deadline = time.monotonic() + timeout
    lines: list[Line] = []
    with door, DefaultSelector() as selector:
        selector.register(door, EVENT_READ)
        while len(lines) < num_callers and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.data is None:
                    _let_in(door, selector)
                elif (words := key.data.receive()) != []:
                    selector.unregister(key.data)
                    if _is_one_of_us(key.data, words, password):
                        key.data.send(name)
                        lines.append(key.data)
                    else:
                        key.data.close()
        for key in list(selector.get_map().values()):
            if key.data is not None:
                key.data.close()
    return lines


def _allow_files(more: int) -> None:
    """Let this process open so many files more, as far as it may: 999 lines do not fit into Linux's 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = soft + more
    with contextlib.suppress(OSError, ValueError):
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def call(port: int, timeout: float, password: str, name: str) -> Line | None:
    """Another rank's line to rank 0, where torch.distributed found it; None if it is not let in."""
    deadline = time.monotonic() + timeout
    try:
        line = Line(socket.create_connection((os.environ["MASTER_ADDR"], port), timeout))
    except OSError:
        return None
    line.send(f"{password} {name}")
    words: list[str] | None = []
    while words == [] and time.monotonic() < deadline:
        words = line.receive()
    if not words:
        line.close()
        return None
    line.other = words.pop(0)
    line.waiting = words
    return line


def _let_in(door: socket.socket, selector: DefaultSelector) -> None:
    """A new caller to listen to; the one that has been silent longest goes where too many wait."""
    silent = [key.data for key in selector.get_map().values() if key.data is not None]
    if len(silent) >= _MAX_SILENT:
        selector.unregister(silent[0])
        silent[0].close()
    with contextlib.suppress(OSError):  # it has left again
        line = Line(door.accept()[0])
        selector.register(line, EVENT_READ, line)


def _is_one_of_us(line: Line, words: list[str] | None, password: str) -> bool:
    sent, _, line.other = words[0].partition(" ") if words else ("", "", "")
    line.waiting = words[1:] if words else []
    return compare_digest(sent.encode(), password.encode())
