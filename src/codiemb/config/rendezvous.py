"""Where the ranks meet: MASTER_ADDR and MASTER_PORT, which a user or a scheduler may have set."""

import os
import socket
import sys

from codiemb.config.ranks import in_sweep, is_main_process
from codiemb.errors import UserError

_WAY_OUT = "set MASTER_PORT=NUMBER to another port, or unset it, and a free one is found"


def check_port() -> None:
    """Refuse a port that rank 0 could not listen on, before any other rank is started.

    Raises:
        UserError: MASTER_PORT is no port, or another process has it.
    """
    port = os.environ.get("MASTER_PORT")
    # a sweep keeps its port from job to job, and torch holds it
    if port is None or not is_main_process() or in_sweep():
        return
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"MASTER_PORT={port} must be a number from 1 to 65535: {_WAY_OUT}")
    try:
        socket.create_server(("", int(port))).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"MASTER_PORT={port}, where the ranks meet: {reason}; {_WAY_OUT}") from error


def advice(error: BaseException) -> str | None:
    """For ranks that could not meet, since the port was taken only then or nobody is there; else None."""
    distributed = sys.modules.get("torch.distributed")  # whose import takes seconds
    if distributed is None or not isinstance(error, distributed.DistNetworkError):
        return None
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    reason = str(error).partition("\n")[0]
    return (
        f"the ranks cannot talk at {place} (MASTER_ADDR, MASTER_PORT): {reason}\nIf it is taken, {_WAY_OUT}"
    )
