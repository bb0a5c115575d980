"""A source: one file's records of one task, converted once to Arrow and memory-mapped from then on."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from datasets import Dataset

from codiemb.data.records import NO_FILE_HINT, BadLine, Record, Text, report, scan_records
from codiemb.errors import UserError

log = logging.getLogger(__name__)

_FORMAT = 2  # raise it when the Arrow layout changes: old caches are then rebuilt
_BAD_LINES = "bad_lines.jsonl"
_ROWS_PER_WRITE = 2_000
_PAIR = pa.list_(pa.string())  # [instruction, text]
_SCHEMA = pa.schema(
    [
        ("query", _PAIR),
        ("positives", pa.list_(_PAIR)),
        ("negatives", pa.list_(_PAIR)),
        ("positive_scores", pa.list_(pa.float64())),
        ("negative_scores", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class SourceFile:
    """A file as the config names it."""

    name: str
    path: Path
    score_range: tuple[float, float] = (0.0, 1.0)


class Source:
    """Records of one task, by index, from a memory-mapped Arrow file: memory does not grow with the file."""

    def __init__(self, name: str, task: str, arrow_file: Path) -> None:
        self.name = name
        self.task = task
        self._rows = Dataset.from_file(str(arrow_file))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        row = self._rows[index]
        return Record(
            self.task,
            Text(*row["query"]),
            [Text(*text) for text in row["positives"]],
            [Text(*text) for text in row["negatives"]],
            row["positive_scores"],
            row["negative_scores"],
        )


def convert(files: Sequence[SourceFile], cache: Path, *, skip_bad: bool, rejects: Path | None = None) -> None:
    """Validate every file and write its Arrow cache, unless an unchanged file was converted before.

    Args:
        files: what to convert.
        cache: folder of the Arrow files.
        skip_bad: go on without bad records, log their count and write them to `rejects`.
        rejects: JSON-lines file of the skipped lines.

    Raises:
        UserError: bad records of all files together, or a file without a usable record.
    """
    bad: list[BadLine] = []
    for file in files:
        bad += _convert_file(file, cache, skip_bad=skip_bad)
    if not bad:
        return
    if not skip_bad:
        raise UserError(report(bad))
    log.warning("skipped %d bad records%s", len(bad), f", see {rejects}" if rejects else "")
    if rejects is not None:
        rejects.parent.mkdir(parents=True, exist_ok=True)
        _write_bad_lines(bad, rejects)


def open_sources(files: Sequence[SourceFile], cache: Path) -> list[Source]:
    """Open converted files; a file that holds several tasks becomes several sources."""
    sources = []
    for file in files:
        arrow_files = sorted(_cache_folder(file, cache).glob("*.arrow"))
        for arrow_file in arrow_files:
            name = file.name if len(arrow_files) == 1 else f"{file.name}.{arrow_file.stem}"
            sources.append(Source(name, arrow_file.stem, arrow_file))
    return sources


def _cache_folder(file: SourceFile, cache: Path) -> Path:
    path = file.path.resolve()
    if not path.is_file():
        raise UserError(f"{file.path}: no such file; {NO_FILE_HINT}")
    stat = path.stat()
    identity = f"{path} {stat.st_size} {stat.st_mtime_ns} {file.score_range} {_FORMAT}"
    return cache / f"{path.stem}-{xxhash.xxh64_hexdigest(identity.encode())}"


def _convert_file(file: SourceFile, cache: Path, *, skip_bad: bool) -> list[BadLine]:
    """Write one file's Arrow folder under a temporary name, rename it when whole; return the bad lines."""
    folder = _cache_folder(file, cache)
    if folder.is_dir():
        return _read_bad_lines(folder / _BAD_LINES)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=cache, prefix="partial-"))
    try:
        bad, count = _write_arrow(file, temporary)
        if bad and not skip_bad:
            return bad
        if not count:
            raise UserError(f"{file.path}: not one usable record among {len(bad)} lines\n{report(bad)}")
        if bad:
            _write_bad_lines(bad, temporary / _BAD_LINES)  # so that the next run reports them again
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another run has converted the same file meanwhile
                raise
        return bad
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrow(file: SourceFile, folder: Path) -> tuple[list[BadLine], int]:
    bad: list[BadLine] = []
    writers: dict[str, _TaskWriter] = {}
    try:
        for item in scan_records(file.path, score_range=file.score_range):
            if isinstance(item, BadLine):
                bad.append(item)
                continue
            if item.task not in writers:
                writers[item.task] = _TaskWriter(folder / f"{item.task}.arrow")
            writers[item.task].add(item)
    finally:
        for writer in writers.values():
            writer.close()
    return bad, sum(writer.count for writer in writers.values())


def _write_bad_lines(bad: Sequence[BadLine], path: Path) -> None:
    rows = [json.dumps(line._asdict(), ensure_ascii=False) for line in bad]
    path.write_text("\n".join(rows) + "\n", "utf-8")


def _read_bad_lines(path: Path) -> list[BadLine]:
    """The lines that a converted file was stripped of; none where there is no such list."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as rows:
        return [BadLine(**json.loads(row)) for row in rows]


class _TaskWriter:
    """Arrow stream of one task's records, written in blocks."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.ipc.new_stream(str(path), _SCHEMA)
        self._block: list[dict[str, Any]] = []
        self.count = 0

    def add(self, record: Record) -> None:
        row = record._asdict()
        del row["task"]
        self._block.append(row)
        self.count += 1
        if len(self._block) == _ROWS_PER_WRITE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._stream.close()

    def _flush(self) -> None:
        if self._block:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._block, schema=_SCHEMA))
            self._block = []
