"""Convert one file: its Arrow folder under a temporary name, renamed when whole; or why there is none."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codiemb.data.arrow import TaskWriter
from codiemb.data.cache import partial_folder, put_in_place, write_sidecar
from codiemb.data.records import BadLine, BadLines
from codiemb.data.scan import Scan
from codiemb.data.source_file import SourceFile, cache_folder
from codiemb.errors import UserError

BAD_LINES = "bad_lines.jsonl"
_RECORDS = 256  # between two reports: more would cost more than a line of a file

Report = Callable[[int, float], None]  # records so far, and the share of the file that was read


class CacheError(UserError):
    """The cache cannot be written: another file would fare no better."""


@dataclass(frozen=True)
class Outcome:
    """Why a file has no folder: an error of the file as a whole, or bad lines; neither where it has one.

    `unknown` are keys that nobody reads, in how many of its `lines`.
    """

    error: str = ""
    bad: BadLines = field(default_factory=BadLines)
    unknown: dict[str, int] = field(default_factory=dict)
    lines: int = 0

    @property
    def is_converted(self) -> bool:
        """Whether its folder is in place."""
        return not self.error and not self.bad.count

    def as_json(self) -> dict[str, Any]:
        """What `of_json` takes."""
        return vars(self) | {"bad": [self.bad.count, self.bad.first]}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "Outcome":
        """From another process."""
        bad = BadLines()
        count, first = value["bad"]
        for line in first:
            bad.add(BadLine(*line))
        bad.count = count
        return cls(**(value | {"bad": bad}))


def convert_file(file: SourceFile, cache: Path, *, skip_bad: bool, report: Report) -> Outcome:
    """Write the folder of a file, unless it has an error, or a bad line that is not skipped.

    Raises:
        CacheError: `cache` cannot be written.
    """
    try:
        return _convert(file, cache, skip_bad=skip_bad, report=report)
    except UserError as error:
        return Outcome(error=str(error))
    except OSError as error:
        raise CacheError(
            f"{file.path} cannot be converted in data.cache={cache}: {error.strerror or error}; make "
            "room there, give your user the right to write, or set data.cache to another folder"
        ) from error


def _convert(file: SourceFile, cache: Path, *, skip_bad: bool, report: Report) -> Outcome:
    folder = cache_folder(file, cache)
    with partial_folder(cache) as temporary:
        scan = Scan(file.path, file.score_range)
        bad, writers = _write_arrow(scan, temporary, report)
        count = sum(writer.count for writer in writers.values())
        unknown = dict(sorted(scan.unknown.items()))  # in one order: they were counted from sets
        lines = count + bad.count
        if bad.count and not skip_bad:
            return Outcome("", bad, unknown, lines)
        if not count:
            error = f"{file.path}: not one usable record among {bad.count} lines\n{bad}"
            return Outcome(error, unknown=unknown, lines=lines)
        about = {
            "path": str(file.path),
            "state": list(scan.state),
            "hash": scan.digest(),
            "lines": lines,
            "unknown": unknown,
            "tasks": {task: writer.about() for task, writer in writers.items()},
        }
        write_sidecar(temporary, about)
        put_in_place(temporary, folder)
    return Outcome()


def _write_arrow(scan: Scan, folder: Path, report: Report) -> tuple[BadLines, dict[str, TaskWriter]]:
    bad = BadLines()
    writers: dict[str, TaskWriter] = {}
    try:
        with (folder / BAD_LINES).open("w", encoding="utf-8", newline="\n") as bad_lines:
            for number, item in enumerate(scan, start=1):
                if number % _RECORDS == 0:
                    report(number, scan.share)
                if isinstance(item, BadLine):
                    bad.add(item)
                    bad_lines.write(json.dumps(item._asdict(), ensure_ascii=False) + "\n")
                    continue
                if item.task not in writers:
                    writers[item.task] = TaskWriter(folder / f"{item.task}.arrow")
                writers[item.task].add(item)
    finally:
        for writer in writers.values():
            writer.close()
    return bad, writers
