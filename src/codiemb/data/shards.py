"""From an entry of the config (a path, a pattern) to the files that it means and their source's name."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from codiemb.data.formats import WILD
from codiemb.errors import UserError

_PACKED = re.compile(r"\.(gz|zst|zstd)$")
_DATA = re.compile(r"\.(jsonl|json|ndjson|jl|parquet|pq|txt)$")
_BETWEEN = " -_.,+"  # what stands between a name and a shard's number


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern of several; a file that is there may have any name."""
    return bool(WILD.search(path)) and not os.path.lexists(path)


def files_of(key: str, entries: Sequence[str]) -> list[Path]:
    """The files that paths and patterns mean: entries in their order, the files of a pattern sorted.

    A pattern is `*`, `?`, `[a-z]`, and `**` for folders of any depth; it means files only, and none whose
    name begins with a dot.

    Raises:
        UserError: a file is named twice.
    """
    files: list[Path] = []
    for entry in entries:
        files += _matches(entry) if is_pattern(entry) else [Path(entry)]
    refuse_twice(key, files)
    return files


def refuse_twice(key: str, files: Sequence[Path]) -> None:
    """Each record once.

    Raises:
        UserError: a file stands twice among them, perhaps as a link to it, or below a link to its folder.
    """
    seen: dict[str, Path] = {}
    for file in files:
        first = seen.setdefault(os.path.realpath(file), file)
        if first is not file:
            link = "" if os.path.abspath(first) == os.path.abspath(file) else f", also as {first}: a link"
            raise UserError(f"{key}: {file} is named twice{link} (a pattern may mean it, too); name it once")


def source_name(entry: str) -> str:
    """Of a file its name without endings; of a pattern what stands before its first wildcard.

    `a.jsonl.gz` is `a`, `train-*.parquet` is `train`, `b/*.parquet` is `b`. It does not depend on which files
    there are: a new shard does not rename the source.
    """
    if not is_pattern(entry):
        return _stem(os.path.basename(entry.rstrip("/")))
    return next(_fixed_parts(entry), "")


def _fixed_parts(pattern: str) -> Iterator[str]:
    """What is fixed of the pattern's parts, the last one first."""
    folder, file = os.path.split(os.path.abspath(pattern))
    for part in (file if WILD.search(file) else _stem(file), *reversed(folder.split(os.sep))):
        if name := WILD.split(part)[0].strip(_BETWEEN):
            yield name


def _stem(name: str) -> str:
    unpacked = _PACKED.sub("", name)
    if unpacked != name:  # x.gz, or x.jsonl.gz
        return _DATA.sub("", unpacked)
    return Path(name).stem


def _matches(pattern: str) -> list[Path]:
    """Its files; itself where there is none, to be told when it is opened, like any file that is missing."""
    found = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))
    return [Path(path) for path in found or [pattern]]
