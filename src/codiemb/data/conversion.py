"""Convert training files to Arrow, once: every later run reads, counts and hashes what lies there."""

import functools
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codiemb.data.cache import damage, hash_file, read_sidecar, write_sidecar
from codiemb.data.formats import check_file
from codiemb.data.keys import unread_keys
from codiemb.data.one_file import BAD_LINES, Outcome, convert_file
from codiemb.data.processes import convert_side_by_side, useful_processes
from codiemb.data.progress import Progress
from codiemb.data.records import MAX_REPORTED, BadLine, BadLines
from codiemb.data.scan import Scan
from codiemb.data.source_file import SourceFile, cache_folder
from codiemb.errors import UserError
from codiemb.json_files import read_jsonl

log = logging.getLogger(__name__)

_SLOW_CHECK = 3.0  # seconds worth a line


def convert(
    files: Sequence[SourceFile],
    cache: Path,
    *,
    skip_bad: bool,
    rejects: Path | None = None,
    num_processes: int | None = None,
) -> None:
    """Validate every file and write its Arrow cache, unless an unchanged file was converted before.

    What was converted before is read and hashed, at the speed of the disk (from memory 7 to 14 GB/s of one
    core); where it is not what was written it is converted again. Run it in one process, which starts others
    where there are several files: what is written and said does not depend on their number.

    Args:
        files: what to convert.
        cache: folder of the Arrow files.
        skip_bad: go on without bad records, log their count and write them to `rejects`.
        rejects: JSON-lines file of the skipped lines.
        num_processes: that convert files side by side, at most; None: see `useful_processes`.

    Raises:
        UserError: bad records of all files together, and files that cannot be read, are of another format,
            have no usable record or change meanwhile; or a cache that cannot be written.
    """
    folders, stale = _look(files, cache)
    done = _convert_all(list(stale.values()), cache, skip_bad, num_processes)
    outcomes = dict(zip(stale, done, strict=True))
    bad = BadLines()
    for file, folder in zip(files, folders, strict=True):
        outcome = outcomes.get(folder, Outcome())
        about = _about(folder) if outcome.is_converted else vars(outcome)
        _say_unread_keys(file, about["unknown"], about["lines"])
        bad += _read_bad_lines(folder / BAD_LINES) if outcome.is_converted else outcome.bad
    _raise([outcome.error for outcome in done if outcome.error], bad, skip_bad=skip_bad)
    if bad.count:
        log.warning("skipped %d bad records%s", bad.count, f", see {rejects}" if rejects else "")
        if rejects is not None:
            _write_rejects(rejects, [folder / BAD_LINES for folder in folders])


def _look(files: Sequence[SourceFile], cache: Path) -> tuple[list[Path], dict[Path, SourceFile]]:
    """The folder of each file, and the files to convert: a first look finds a wrong one before any work.

    Raises:
        UserError: files that are missing, cannot be read or have another format.
    """
    folders: list[Path] = []
    stale: dict[Path, SourceFile] = {}
    problems = []
    for file in files:
        try:
            folders.append(folder := cache_folder(file, cache))
            if folder not in stale and not _is_usable(file, folder):
                Scan(file.path, file.score_range)
                stale[folder] = file
        except UserError as error:
            problems.append(str(error))
    _raise(problems, BadLines(), skip_bad=True)
    return folders, stale


def _convert_all(
    files: Sequence[SourceFile], cache: Path, skip_bad: bool, num_processes: int | None
) -> list[Outcome]:
    if not files:
        return []
    sizes = [check_file(file.path).size for file in files]
    progress = Progress([file.path for file in files], sizes)
    processes = useful_processes(sizes, num_processes)
    if processes > 1:
        return convert_side_by_side(files, cache, skip_bad=skip_bad, count=processes, progress=progress)
    return [
        convert_file(file, cache, skip_bad=skip_bad, report=functools.partial(progress.update, k))
        for k, file in enumerate(files)
    ]


def _raise(errors: Sequence[str], bad: BadLines, *, skip_bad: bool) -> None:
    """One error of all files; bad lines are none where they are skipped."""
    parts = list(errors[:MAX_REPORTED])
    if len(errors) > MAX_REPORTED:
        parts.append(f"... and {len(errors) - MAX_REPORTED} more files")
    if bad.count and not skip_bad:
        parts.append(str(bad))
    if parts:
        raise UserError("\n".join(parts))


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


def _write_rejects(rejects: Path, parts: Sequence[Path]) -> None:
    rejects.parent.mkdir(parents=True, exist_ok=True)
    with rejects.open("wb") as all_lines:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, all_lines)
