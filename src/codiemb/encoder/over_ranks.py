"""Encoding shared by all ranks: rank 0 evaluates, the others encode what it hands out, nobody does so twice.

Whatever the strategy, only rank 0 runs mteb. Texts and vectors travel over gloo, on the CPU: a rank that
waits for rank 0's scoring sleeps in a socket, beyond the reach of `strategy.timeout` and of NCCL's watchdog.
"""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float32
from torch import Tensor

from codiemb.distributed import rank, world_size
from codiemb.stop import RankLost
from codiemb.text_encoder import Settings, Side, Stated, TextEncoder

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_ENCODE, _FETCH, _VECTORS, _DONE, _FAILED = range(5)
_FOR_EVER = timedelta(days=365)  # scoring takes what it takes; a rank that dies closes its connections
_TO_HEAR = timedelta(seconds=10)  # of a failure, for whoever is in the middle of something


def over_ranks(encoder: TextEncoder, work: Callable[[TextEncoder], Result]) -> Result | None:
    """Do `work` on rank 0 with an encoder that all ranks share, and return its result there; None elsewhere.

    All ranks must call it with the same weights. Each calls `encode` equally often, one that gets no texts
    too, so `encode` may use collectives of its own. A text has the vector that one process gives it, to
    rounding: other texts share its forward pass.

    Raises:
        RankLost: another rank failed, or is gone; what it said has been logged.
    """
    if world_size() == 1:
        return work(encoder)
    line = _line(dist.group.WORLD)
    if rank() > 0:
        _serve(encoder, line)
        return None
    try:
        shared = _SharedStated if isinstance(encoder, Stated) else _Shared
        result = work(shared(encoder, line))
    except BaseException as error:
        line.offer(range(1, world_size()), _FAILED, _first_line(error))
        raise
    for other in range(1, world_size()):
        line.send(other, _DONE)
    return result


class _Shared:
    """The encoder that rank 0 works with."""

    def __init__(self, encoder: TextEncoder, line: "_Line") -> None:
        self._encoder = encoder
        self._line = line

    def encode(
        self,
        texts: Sequence[str],
        *,
        instruction: str = "",
        side: Side | None = None,
        progress: bool = False,
    ) -> Float32[np.ndarray, "S D"]:
        """As the encoder's own; `progress` is that of rank 0's share.

        Texts are dealt out by length, one to each rank in turn, so that all have equally much to do.
        """
        order = np.argsort([len(text) for text in texts], kind="stable")
        shares = [order[number :: world_size()].tolist() for number in range(world_size())]
        for other, share in enumerate(shares[1:], 1):
            asked = {"texts": [texts[i] for i in share], "instruction": instruction, "side": side}
            self._line.send(other, _ENCODE, json.dumps(asked).encode())
        own = [texts[i] for i in shares[0]]
        part_sD = self._encoder.encode(own, instruction=instruction, side=side, progress=progress)
        out_SD = np.empty((len(texts), part_sD.shape[1]), dtype=np.float32)
        out_SD[shares[0]] = part_sD
        for other, share in enumerate(shares[1:], 1):
            self._line.send(other, _FETCH)
            kind, vectors = self._line.hear(other)
            if kind == _FAILED:
                _stop(f"rank {other} failed: {vectors.decode()}")
            out_SD[share] = np.frombuffer(vectors, dtype=np.float32).reshape(len(share), out_SD.shape[1])
        return out_SD


class _SharedStated(_Shared):
    """Of an encoder that says what its vectors depend on."""

    _encoder: Any

    def prefix(self, instruction: str = "", side: Side | None = None) -> str:
        """The encoder's own."""
        prefix: str = self._encoder.prefix(instruction, side)
        return prefix

    def settings(self) -> Settings:
        """The encoder's own."""
        settings: Settings = self._encoder.settings()
        return settings


def _serve(encoder: TextEncoder, line: "_Line") -> None:
    """Encode what rank 0 asks for, until it is done.

    Vectors wait here until it fetches them: it must be able to say at any time that it has failed.
    """
    vectors = b""
    while True:
        kind, message = line.hear(0)
        if kind == _DONE:
            return
        if kind == _FAILED:
            _stop(f"rank 0 failed: {message.decode()}")
        if kind == _FETCH:
            line.send(0, _VECTORS, vectors)
            continue
        asked = json.loads(message)
        try:
            part_sD = encoder.encode(asked["texts"], instruction=asked["instruction"], side=asked["side"])
        except Exception as error:
            _explain(error, line)
            raise
        vectors = np.asarray(part_sD, dtype=np.float32).tobytes()


def _explain(error: Exception, line: "_Line") -> None:
    """Tell rank 0, if it fetches vectors soon. It may never: it may wait in a collective for this rank."""
    with contextlib.suppress(RankLost):
        line.hear(0, _TO_HEAR)
        line.offer([0], _FAILED, _first_line(error))


class _Line:
    """Messages between two ranks: a kind, and bytes. All ranks make it together."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=_FOR_EVER)

    def send(self, to: int, kind: int, message: bytes = b"") -> None:
        """Waits until the other rank hears it.

        Raises:
            RankLost: it is gone.
        """
        with _reaching(to):
            for part in _parts(kind, message):
                dist.send(part, to, self._group)

    def offer(self, to: Sequence[int], kind: int, message: str) -> None:
        """Waits a little for those that hear it; the others are gone, or in the middle of something."""
        parts = _parts(kind, message.encode())  # kept until the end: what is sent is not copied
        sent = []
        for other in to:
            with contextlib.suppress(RuntimeError):
                sent += [dist.isend(part, other, self._group) for part in parts]
        for work in sent:
            with contextlib.suppress(RuntimeError):
                assert work is not None
                work.wait(_TO_HEAR)

    def hear(self, other: int, timeout: timedelta = _FOR_EVER) -> tuple[int, bytes]:
        """The next message.

        Raises:
            RankLost: the other rank is gone, or silent for so long.
        """
        head = torch.zeros(2, dtype=torch.int64)
        with _reaching(other):
            self._receive(head, other, timeout)
            kind, length = head.tolist()
            message = torch.empty(length, dtype=torch.uint8)
            if length:
                self._receive(message, other, timeout)
        return kind, message.numpy().tobytes()

    def _receive(self, tensor: Tensor, other: int, timeout: timedelta) -> None:
        work = dist.irecv(tensor, other, self._group)
        assert work is not None
        work.wait(timeout)


@functools.lru_cache(maxsize=1)
def _line(world: dist.ProcessGroup | None) -> _Line:
    """One for the life of a world: groups are not cheap, and nothing is gained by closing them."""
    return _Line()


def _parts(kind: int, message: bytes) -> list[Tensor]:
    head = torch.tensor([kind, len(message)])
    return [head, torch.frombuffer(bytearray(message), dtype=torch.uint8)] if message else [head]


@contextlib.contextmanager
def _reaching(other: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's for a closed connection and for a timeout
        _stop(f"rank {other} is gone; its own output may say why", error)


def _stop(message: str, cause: BaseException | None = None) -> NoReturn:
    log.error("%s; rank %d stops", message, rank())
    raise RankLost(message) from cause


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
