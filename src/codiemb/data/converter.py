"""A process that converts files for another: `python -m codiemb.data.converter DESCRIPTOR` (processes.py)."""

import json
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from codiemb.data.one_file import CacheError, convert_file
from codiemb.data.source_file import SourceFile

_SECONDS = 1.0  # between two reports


class _StoppedError(Exception):
    """The other process has closed the channel, or is gone."""


class _Reports:
    """Says how far a file is, and looks whether anybody still listens."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._said = time.monotonic()

    def __call__(self, num_records: int, share: float) -> None:
        if self._channel.poll():  # no job comes before this one is done: it is the end
            raise _StoppedError
        if time.monotonic() - self._said >= _SECONDS:
            self._said = time.monotonic()
            _send(self._channel, {"read": [num_records, share]})


def serve(channel: Connection) -> None:
    """Convert file after file, until the channel ends."""
    while True:
        try:
            job = json.loads(channel.recv_bytes())
            _send(channel, _answer(job, channel))
        except (EOFError, OSError, _StoppedError):
            return


def _answer(job: dict[str, Any], channel: Connection) -> dict[str, Any]:
    name, path, score_range, in_batch = job["file"]
    try:
        file = SourceFile(name, Path(path), tuple(score_range), in_batch)
        outcome = convert_file(file, Path(job["cache"]), skip_bad=job["skip_bad"], report=_Reports(channel))
    except CacheError as error:
        return {"cache": str(error)}
    except _StoppedError:
        raise
    except Exception:  # not the user's: the other process shows it and ends
        return {"ours": traceback.format_exc()}
    return {"outcome": outcome.as_json()}


def _send(channel: Connection, message: dict[str, Any]) -> None:
    channel.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    os.dup2(2, 1)  # standard output is the run's; what a library says here is no result
    serve(Connection(int(sys.argv[1])))
