"""Vectors in files: written whole, found by 128-bit keys, checked when read; the oldest use makes room."""

import contextlib
import logging
import os
import secrets
import struct
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from jaxtyping import Bool, Float32, Int, UInt64

from codiemb.atomic import sync

log = logging.getLogger(__name__)
_HEADER = struct.Struct("<8sQQ")  # what it is, number of rows, width
_MAGIC = b"codiemb1"
_KEY_BYTES = 3 * 8  # of a row: two halves of its key, and a checksum
_SECONDS_TO_WRITE = 3600  # of a file that is not whole yet; older ones are of a process that was killed


class _Shard(NamedTuple):
    """One file in memory-mapped parts, ascending by the first half of the key."""

    path: Path
    first_n: UInt64[np.ndarray, " n"]
    second_n: UInt64[np.ndarray, " n"]
    checksum_n: UInt64[np.ndarray, " n"]
    row_nD: Float32[np.ndarray, "n D"]


class EmbeddingStore:
    """A folder of vectors that any number of processes read and write at once.

    Every `put` is a file of its own: under a temporary name first, flushed, then renamed. So what a killed
    process leaves is not read, and nobody waits for a lock. Each row has a checksum that is tied to its key:
    a row that the disk has changed is not found.

    Args:
        folder: of the stores of all identities, which share the room.
        identity: of everything that changes a vector but its text and prefix, as a name for a sub-folder.
        max_bytes: of the whole folder; the files whose last use is oldest are removed first.
    """

    def __init__(self, folder: Path, identity: str, max_bytes: int) -> None:
        self._root = folder
        self._folder = folder / identity
        self._max_bytes = max_bytes
        self._shards: dict[str, _Shard] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room()

    def get(
        self, key_S2: UInt64[np.ndarray, "S 2"]
    ) -> tuple[Bool[np.ndarray, " S"], Float32[np.ndarray, "S D"]]:
        """Which keys are there, and their rows; other rows are undefined (and D is 0 if none is there)."""
        self._open_new_shards()
        found_S = np.zeros(len(key_S2), dtype=bool)
        row_SD = np.empty((len(key_S2), 0), dtype=np.float32)
        for shard in self._shards.values():
            wanted = np.flatnonzero(~found_S)
            if not len(wanted):
                break
            place, row_kD = _find(shard, key_S2[wanted])
            if not len(place):
                continue
            if row_SD.shape[1] == 0:
                row_SD = np.empty((len(key_S2), row_kD.shape[1]), dtype=np.float32)
            row_SD[wanted[place]] = row_kD
            found_S[wanted[place]] = True
            with contextlib.suppress(OSError):  # removed by another process; the mapped file stays readable
                os.utime(shard.path)
        return found_S, row_SD

    def put(self, key_S2: UInt64[np.ndarray, "S 2"], row_SD: Float32[np.ndarray, "S D"]) -> None:
        """Keep rows; a full or forbidden disk is a warning, for the vectors are there."""
        size = _size(len(key_S2), row_SD.shape[1])
        if not len(key_S2) or size > self._max_bytes:
            return
        path = self._folder / f"{secrets.token_hex(8)}.shard"
        try:
            _write(path, key_S2, np.ascontiguousarray(row_SD, dtype="<f4"))
        except OSError as error:
            path.with_suffix(".partial").unlink(missing_ok=True)
            log.warning("%s: embeddings are not kept: %s", path.parent, error.strerror or error)
        self._make_room()

    def _open_new_shards(self) -> None:
        for path in self._folder.glob("*.shard"):
            if path.name not in self._shards and (shard := _open(path)) is not None:
                self._shards[path.name] = shard

    def _make_room(self) -> None:
        """Remove what was killed in the middle, then the oldest uses, until the rest fits."""
        files = []
        for path in (*self._root.glob("*/*.shard"), *self._root.glob("*/*.partial")):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        too_many = sum(size for _, size, _ in files) - self._max_bytes
        for used, size, path in sorted(files):
            is_left_over = path.suffix == ".partial" and time.time() - used > _SECONDS_TO_WRITE
            if is_left_over or (too_many > 0 and path.suffix == ".shard"):
                path.unlink(missing_ok=True)
                too_many -= size


def _find(
    shard: _Shard, key_S2: UInt64[np.ndarray, "S 2"]
) -> tuple[Int[np.ndarray, " k"], Float32[np.ndarray, "k D"]]:
    """Which keys the shard has, and their rows, without those that are not as they were written."""
    row_S = np.searchsorted(shard.first_n, key_S2[:, 0])
    row_S[row_S == len(shard.first_n)] = 0
    is_there = (shard.first_n[row_S] == key_S2[:, 0]) & (shard.second_n[row_S] == key_S2[:, 1])
    place = np.flatnonzero(is_there)
    row_kD = shard.row_nD[row_S[place]]
    intact = _checksums(key_S2[place], row_kD) == shard.checksum_n[row_S[place]]
    return place[intact], row_kD[intact]


def _checksums(
    key_S2: UInt64[np.ndarray, "S 2"], row_SD: Float32[np.ndarray, "S D"]
) -> UInt64[np.ndarray, " S"]:
    sums = [
        xxhash.xxh3_64_intdigest(row.data, seed=seed)
        for row, seed in zip(row_SD, key_S2[:, 1].tolist(), strict=True)
    ]
    return np.array(sums, dtype=np.uint64)


def _size(num_rows: int, width: int) -> int:
    return _HEADER.size + num_rows * (_KEY_BYTES + 4 * width)


def _write(path: Path, key_S2: UInt64[np.ndarray, "S 2"], row_SD: Float32[np.ndarray, "S D"]) -> None:
    order = np.argsort(key_S2[:, 0], kind="stable")
    key_S2, row_SD = key_S2[order], row_SD[order]
    columns = (key_S2[:, 0], key_S2[:, 1], _checksums(key_S2, row_SD))
    partial = path.with_suffix(".partial")
    with partial.open("xb") as file:
        file.write(_HEADER.pack(_MAGIC, *row_SD.shape))
        for part in (*columns, row_SD):
            file.write(np.ascontiguousarray(part).data)
    sync(partial)
    os.replace(partial, path)


def _open(path: Path) -> _Shard | None:
    """A whole file of ours; anything else is as good as absent."""
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        magic, num_rows, width = _HEADER.unpack(data[: _HEADER.size].tobytes())
    except (OSError, ValueError, struct.error):  # removed by another process, empty, too short
        return None
    if magic != _MAGIC or len(data) != _size(num_rows, width) or num_rows * width == 0:
        return None
    end = _HEADER.size + _KEY_BYTES * num_rows
    first, second, checksums = data[_HEADER.size : end].view("<u8").reshape(3, num_rows)
    return _Shard(path, first, second, checksums, data[end:].view("<f4").reshape(num_rows, width))
