"""A source: one file's records of one task, converted once to Arrow and memory-mapped from then on."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from datasets import Dataset

from codiemb.data.records import NO_FILE_HINT, BadLine, BadLines, Record, Text, scan_records
from codiemb.errors import UserError

log = logging.getLogger(__name__)

_FORMAT = 3  # raise it when the Arrow layout changes: old caches are then rebuilt
_BAD_LINES = "bad_lines.jsonl"
_INSTRUCTIONS = "instructions.json"
_ROWS_PER_WRITE = 2_000
_CHARACTERS_PER_WRITE = 2**25  # a column of a block may hold 2 GiB
_NUM_LONGEST = 8  # instructions remembered of each side of a task
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
    """A file as the config names it; its settings are those of `SourceConfig`."""

    name: str
    path: Path
    score_range: tuple[float, float] = (0.0, 1.0)
    in_batch: bool = True


class Source:
    """Records of one task, by index, from a memory-mapped Arrow file: memory does not grow with the file.

    `longest` holds a record of the longest instructions of each side, with one-letter texts.
    """

    def __init__(self, name: str, task: str, arrow_file: Path, *, in_batch: bool = True) -> None:
        self.name = name
        self.task = task
        self.in_batch = in_batch
        self._rows = Dataset.from_file(str(arrow_file))
        sides = json.loads((arrow_file.parent / _INSTRUCTIONS).read_text("utf-8"))[task]
        self.longest = [
            Record(task, Text(query, "x"), [Text(document, "x")], [], [1.0], [])
            for query, document in zip_longest(*sides, fillvalue="")
        ]

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
    bad = BadLines()
    for file in files:
        bad += _convert_file(file, cache, skip_bad=skip_bad)
    if not bad.count:
        return
    if not skip_bad:
        raise UserError(str(bad))
    log.warning("skipped %d bad records%s", bad.count, f", see {rejects}" if rejects else "")
    if rejects is not None:
        rejects.parent.mkdir(parents=True, exist_ok=True)
        with rejects.open("wb") as all_lines:
            for file in files:
                with (_cache_folder(file, cache) / _BAD_LINES).open("rb") as lines:
                    shutil.copyfileobj(lines, all_lines)


def open_sources(files: Sequence[SourceFile], cache: Path) -> list[Source]:
    """Open converted files; a file that holds several tasks becomes several sources."""
    sources = []
    for file in files:
        arrow_files = sorted(_cache_folder(file, cache).glob("*.arrow"))
        for arrow_file in arrow_files:
            name = file.name if len(arrow_files) == 1 else f"{file.name}.{arrow_file.stem}"
            sources.append(Source(name, arrow_file.stem, arrow_file, in_batch=file.in_batch))
    return sources


def _cache_folder(file: SourceFile, cache: Path) -> Path:
    path = file.path.resolve()
    if not path.is_file():
        raise UserError(f"{file.path}: no such file; {NO_FILE_HINT}")
    stat = path.stat()
    identity = f"{path} {stat.st_size} {stat.st_mtime_ns} {file.score_range} {_FORMAT}"
    return cache / f"{path.stem}-{xxhash.xxh64_hexdigest(identity.encode())}"


def _convert_file(file: SourceFile, cache: Path, *, skip_bad: bool) -> BadLines:
    """Write one file's Arrow folder under a temporary name, rename it when whole; return the bad lines.

    They are also written beside the records, so that the next run reports them again.
    """
    folder = _cache_folder(file, cache)
    if folder.is_dir():
        return _read_bad_lines(folder / _BAD_LINES)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=cache, prefix="partial-"))
    try:
        bad, count = _write_arrow(file, temporary)
        if bad.count and not skip_bad:
            return bad
        if not count:
            raise UserError(f"{file.path}: not one usable record among {bad.count} lines\n{bad}")
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():  # else another run has converted the same file meanwhile
                raise
        return bad
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrow(file: SourceFile, folder: Path) -> tuple[BadLines, int]:
    bad = BadLines()
    writers: dict[str, _TaskWriter] = {}
    try:
        with (folder / _BAD_LINES).open("w", encoding="utf-8") as bad_lines:
            for item in scan_records(file.path, score_range=file.score_range):
                if isinstance(item, BadLine):
                    bad.add(item)
                    bad_lines.write(json.dumps(item._asdict(), ensure_ascii=False) + "\n")
                    continue
                if item.task not in writers:
                    writers[item.task] = _TaskWriter(folder / f"{item.task}.arrow")
                writers[item.task].add(item)
    finally:
        for writer in writers.values():
            writer.close()
    instructions = {task: writer.longest_instructions() for task, writer in writers.items()}
    (folder / _INSTRUCTIONS).write_text(json.dumps(instructions), "utf-8")
    return bad, sum(writer.count for writer in writers.values())


def _read_bad_lines(path: Path) -> BadLines:
    """The lines that a converted file was stripped of."""
    bad = BadLines()
    with path.open(encoding="utf-8") as rows:
        for row in rows:
            bad.add(BadLine(**json.loads(row)))
    return bad


class _TaskWriter:
    """Arrow stream of one task's records, written in blocks."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.ipc.new_stream(str(path), _SCHEMA)
        self._block: list[dict[str, Any]] = []
        self._characters = 0
        self._longest: tuple[set[str], set[str]] = (set(), set())  # instructions of queries, of documents
        self.count = 0

    def add(self, record: Record) -> None:
        row = record._asdict()
        del row["task"]
        self._block.append(row)
        self.count += 1
        documents = [*record.positives, *record.negatives]
        self._characters += sum(len(text) for _, text in (record.query, *documents))
        for longest, texts in zip(self._longest, ([record.query], documents), strict=True):
            _keep_longest(longest, texts)
        if len(self._block) == _ROWS_PER_WRITE or self._characters >= _CHARACTERS_PER_WRITE:
            self._flush()

    def longest_instructions(self) -> list[list[str]]:
        """Of queries, and of documents; the longest first."""
        return [sorted(longest, key=len, reverse=True) for longest in self._longest]

    def close(self) -> None:
        self._flush()
        self._stream.close()

    def _flush(self) -> None:
        if self._block:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._block, schema=_SCHEMA))
            self._block, self._characters = [], 0


def _keep_longest(longest: set[str], texts: Sequence[Text]) -> None:
    """Add the texts' instructions to the longest ones."""
    for instruction, _ in texts:
        if instruction not in longest:
            longest.add(instruction)
            if len(longest) > _NUM_LONGEST:
                longest.remove(min(longest, key=len))
