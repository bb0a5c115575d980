"""Rows of numbers that are computed once and kept on disk, restartable, with a record of what they are."""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm.auto import tqdm

from codiemb.atomic import sync, write_text
from codiemb.encoder.fingerprint import Fingerprint
from codiemb.errors import UserError
from codiemb.json_files import read_json
from data_prep.one_writer import only_writer
from data_prep.search.fingerprint import refuse_other

ROWS = "rows.npy"
SIDECAR = "fingerprint.json"  # written last: where it stands, the rows are whole
STARTED = "started.json"  # while they are not: the same record, and how many are there
Compute = Callable[[int, int], np.ndarray]  # the rows from a start to an end


@dataclass(frozen=True)
class Table:
    """What is kept: its shape, how many rows are computed and synced at a time, and what they depend on.

    Rows are computed shard by shard from the first one on, each shard alone, so that a restart at the last
    finished shard ends with the same bits.
    """

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: str
    fingerprint: Fingerprint
    rows_per_shard: int = 4_096

    def record(self) -> Fingerprint:
        """All that makes two tables the same, in JSON."""
        table = {
            "rows": self.num_rows,
            "row_shape": list(self.row_shape),
            "dtype": self.dtype,
            "rows_per_shard": self.rows_per_shard,
        }
        return {"table": table, **self.fingerprint}


def kept_rows(folder: Path, table: Table, compute: Compute, *, progress: str = "") -> np.ndarray:
    """The rows, memory-mapped and read-only; what is not in the folder yet is computed first.

    Args:
        folder: holds them alone; made if it is not there.
        table: what they are.
        compute: gives the rows of a shard.
        progress: what a bar with the time left is called; "" shows none.

    Raises:
        UserError: the folder holds the rows of something else (they are not touched), or the disk is full
            (another call goes on from there), or another process writes it.
    """
    if not table.num_rows:
        raise UserError(f"{folder}: there is nothing to compute, the table has no rows")
    record = table.record()
    if _rows_there(folder, record) < table.num_rows or not (folder / SIDECAR).is_file():
        try:
            # two that write would leave holes: each cuts off what the other has behind its own place
            with only_writer(folder, folder):
                _complete(folder, table, record, compute, progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"{folder}: the disk is full; make room and start again, it goes on from there"
            ) from error
    return _mapped(folder / ROWS, table)


def _complete(folder: Path, table: Table, record: Fingerprint, compute: Compute, progress: str) -> None:
    done = _rows_there(folder, record)  # asked again: another process may just have finished
    if done < table.num_rows:
        _compute_rest(folder, table, record, compute, done, progress)
    if not (folder / SIDECAR).is_file():
        write_text(folder / SIDECAR, _json(record))
    (folder / STARTED).unlink(missing_ok=True)


def _rows_there(folder: Path, record: Fingerprint) -> int:
    """How many rows a folder has of this table; all where it has the sidecar."""
    if (folder / SIDECAR).is_file():
        refuse_other(folder, read_json(folder / SIDECAR, {}), record)
        return int(record["table"]["rows"])
    started: dict[str, Any] = read_json(folder / STARTED, {})
    if not started:
        return 0
    refuse_other(folder, started["record"], record)
    return int(started["rows_done"])


def _compute_rest(
    folder: Path, table: Table, record: Fingerprint, compute: Compute, done: int, progress: str
) -> None:
    bar = tqdm(total=table.num_rows, initial=done, unit="row", desc=progress, disable=not progress)
    with bar, (folder / ROWS).open("r+b" if done else "wb") as file:
        _to_row(file, table, done)
        for start in range(done, table.num_rows, table.rows_per_shard):
            end = min(start + table.rows_per_shard, table.num_rows)
            # plain writes: on a full disk those into a memory map kill the process without a word
            file.write(_fitting(compute(start, end), table, end - start).tobytes())
            file.flush()
            sync(folder / ROWS)
            write_text(folder / STARTED, _json({"record": record, "rows_done": end}))
            bar.update(end - start)


def _to_row(file: IO[bytes], table: Table, row: int) -> None:
    """Go to the place of a row and forget what was written behind it; the first place is after the header."""
    shape = (table.num_rows, *table.row_shape)
    descr = np.lib.format.dtype_to_descr(np.dtype(table.dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    file.seek(file.tell() + row * _row_bytes(table))
    file.truncate()


def _fitting(rows: np.ndarray, table: Table, num_rows: int) -> np.ndarray:
    if rows.shape != (num_rows, *table.row_shape):
        raise ValueError(f"rows of shape {rows.shape}, expected {(num_rows, *table.row_shape)}")
    return rows.astype(table.dtype)


def _row_bytes(table: Table) -> int:
    return int(np.dtype(table.dtype).itemsize * np.prod(table.row_shape, dtype=np.int64))


def _mapped(path: Path, table: Table) -> np.ndarray:
    shape = (table.num_rows, *table.row_shape)
    try:
        rows: np.ndarray = np.load(path, mmap_mode="r")
        found = f"{rows.dtype} {rows.shape}"
    except (OSError, ValueError) as error:
        rows, found = np.empty(0), str(error)
    if rows.shape != shape or rows.dtype != table.dtype:
        raise UserError(
            f"{path} does not hold {table.dtype} {shape} ({found}): it was damaged; remove its folder"
        )
    return rows


def _json(value: Fingerprint) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
