"""Convert training files to Arrow, once: every later run reads, counts and hashes what lies there."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codiemb.data.arrow import TaskWriter
from codiemb.data.cache import damage, hash_file, partial_folder, put_in_place, read_sidecar, write_sidecar
from codiemb.data.formats import check_file
from codiemb.data.keys import unread_keys
from codiemb.data.records import BadLine, BadLines
from codiemb.data.scan import Scan
from codiemb.data.source import SourceFile, cache_folder
from codiemb.errors import UserError
from codiemb.json_files import read_jsonl

log = logging.getLogger(__name__)

_BAD_LINES = "bad_lines.jsonl"
_SECONDS = 10.0  # between two lines of progress
_SLOW_CHECK = 3.0  # seconds worth a line


def convert(files: Sequence[SourceFile], cache: Path, *, skip_bad: bool, rejects: Path | None = None) -> None:
    """Validate every file and write its Arrow cache, unless an unchanged file was converted before.

    What was converted before is read and hashed, at the speed of the disk (from memory 7 to 14 GB/s of one
    core); where it is not what was written it is converted again. Run it in one process.

    Args:
        files: what to convert.
        cache: folder of the Arrow files.
        skip_bad: go on without bad records, log their count and write them to `rejects`.
        rejects: JSON-lines file of the skipped lines.

    Raises:
        UserError: bad records of all files together, a file that cannot be read, is none of JSON lines, has
            no usable record or changes meanwhile, or a cache that cannot be written.
    """
    bad = BadLines()
    for file in files:
        try:
            bad += _converted(file, cache, skip_bad=skip_bad)
        except OSError as error:
            raise UserError(
                f"{file.path} cannot be converted in data.cache={cache}: {error.strerror or error}; make "
                "room there, give your user the right to write, or set data.cache to another folder"
            ) from error
    if not bad.count:
        return
    if not skip_bad:
        raise UserError(str(bad))
    log.warning("skipped %d bad records%s", bad.count, f", see {rejects}" if rejects else "")
    if rejects is not None:
        rejects.parent.mkdir(parents=True, exist_ok=True)
        with rejects.open("wb") as all_lines:
            for file in files:
                with (cache_folder(file, cache) / _BAD_LINES).open("rb") as lines:
                    shutil.copyfileobj(lines, all_lines)


def _converted(file: SourceFile, cache: Path, *, skip_bad: bool) -> BadLines:
    """Make sure of a file's Arrow folder, and return the bad lines that are not in it."""
    folder = cache_folder(file, cache)
    if not _is_usable(file, folder):
        bad = _convert_file(file, cache, folder, skip_bad=skip_bad)
        if bad is not None:
            return bad
    about = _about(folder)
    _say_unread_keys(file, about["unknown"], about["lines"])
    return _read_bad_lines(folder / _BAD_LINES)


def _is_usable(file: SourceFile, folder: Path) -> bool:
    """Whether the folder is whole, and holds what the file says now."""
    if not folder.is_dir():
        return False
    started = time.monotonic()
    problem = damage(folder)
    if (seconds := time.monotonic() - started) > _SLOW_CHECK:
        log.info("%s: read and hashed in %.0f s", folder, seconds)
    if problem is None:
        about, state = _about(folder), check_file(file.path)
        if about["state"] == list(state):
            return True
        if about["hash"] == hash_file(file.path):
            _remember(folder, about | {"state": list(state)})
            return True
        problem = f"{file.path} has other content, though its size and time are the same"
    log.warning("%s: converted again: %s", folder, problem)
    return False


def _remember(folder: Path, about: dict[str, Any]) -> None:
    """The file was touched, not changed: next time it need not be hashed."""
    try:
        write_sidecar(folder, about)
    except OSError:
        log.info("%s cannot be written: %s is hashed at every start", folder, about["path"])


def _about(folder: Path) -> dict[str, Any]:
    sidecar = read_sidecar(folder)
    if sidecar is None:
        raise UserError(f"{folder}: changed while it was looked at; start again")
    about: dict[str, Any] = sidecar["about"]
    return about


def _convert_file(file: SourceFile, cache: Path, folder: Path, *, skip_bad: bool) -> BadLines | None:
    """Write the folder under a temporary name, rename it when whole; or return why not: bad lines."""
    with partial_folder(cache) as temporary:
        scan = Scan(file.path, file.score_range)
        bad, writers = _write_arrow(scan, temporary)
        count = sum(writer.count for writer in writers.values())
        if (bad.count and not skip_bad) or not count:
            _say_unread_keys(file, scan.unknown, count + bad.count)
        if bad.count and not skip_bad:
            return bad
        if not count:
            raise UserError(f"{file.path}: not one usable record among {bad.count} lines\n{bad}")
        about = {
            "path": str(file.path),
            "state": list(scan.state),
            "hash": scan.digest,
            "lines": count + bad.count,
            "unknown": dict(scan.unknown),
            "tasks": {task: writer.about() for task, writer in writers.items()},
        }
        write_sidecar(temporary, about)
        put_in_place(temporary, folder)
    return None


def _write_arrow(scan: Scan, folder: Path) -> tuple[BadLines, dict[str, TaskWriter]]:
    bad = BadLines()
    writers: dict[str, TaskWriter] = {}
    progress = _Progress(scan)
    try:
        with (folder / _BAD_LINES).open("w", encoding="utf-8", newline="\n") as bad_lines:
            for item in scan:
                progress.show()
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


class _Progress:
    """A line in the log every ten seconds, with the time left."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._started = self._shown = time.monotonic()
        self._count = 0

    def show(self) -> None:
        self._count += 1
        if self._count % 256:
            return
        now = time.monotonic()
        if now - self._shown < _SECONDS:
            return
        self._shown = now
        share = self._scan.num_bytes / max(self._scan.state.size, 1)
        left = (now - self._started) * (1 / share - 1)
        log.info(
            "converting %s: %s records, %.0f %%, %d:%02d left",
            self._scan.path, f"{self._count:,}", 100 * share, *divmod(round(left), 60),
        )  # fmt: skip


def _say_unread_keys(file: SourceFile, unknown: Mapping[str, int], num_records: int) -> None:
    """Once a file and run: a slip in a key trains without what it names."""
    slips, bookkeeping = unread_keys(unknown, num_records)
    if slips:
        log.warning("%s: keys that are not read: %s", file.path, slips)
    if bookkeeping:
        log.info("%s: keys of its own bookkeeping: %s", file.path, bookkeeping)


def _read_bad_lines(path: Path) -> BadLines:
    """The lines that a converted file was stripped of."""
    bad = BadLines()
    for row in read_jsonl(path):
        bad.add(BadLine(**row))
    return bad
