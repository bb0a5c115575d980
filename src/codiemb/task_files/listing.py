"""The data files of a folder: by their names without endings, or by the patterns of its task.yaml."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from codiemb.errors import UserError
from codiemb.raw_files.rows import PACKED, is_readable
from codiemb.task_files.described import FILE
from codiemb.task_files.found import files_there, listed

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")  # as the hub's data sets are cut

Files = Mapping[str, list[Path]]  # by what stands before the endings


def matching(folder: Path, patterns: str | list[str]) -> tuple[Path, ...]:
    """The files that task.yaml means, each once.

    Raises:
        UserError: a name that is none of the folder, or that no file has.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not pattern or Path(pattern).is_absolute():
            raise UserError(
                f"{folder / FILE}: files: {pattern!r} is no name in the folder; write it as seen from there, "
                "as data/*.csv or ../other.csv"
            )
        paths = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not paths:
            present = listed([path.name for path in files_there(folder)])
            raise UserError(f"{folder / FILE}: files: none is called {pattern!r}; there are {present}")
        found += paths
    return tuple(dict.fromkeys(found))  # two patterns may mean one file


def by_stem(folder: Path, chosen: Collection[Path] = ()) -> Files:
    """The data files of a folder by their names without endings; shards are one.

    Args:
        folder: to look in.
        chosen: files that task.yaml names: what else has their names is not meant.

    Raises:
        UserError: two files of one name, or shards of which some are missing.
    """
    files: dict[str, list[Path]] = {}
    for path in files_there(folder):
        if is_readable(path):
            files.setdefault(_SHARD.sub("", stem_of(path)), []).append(path)
    for stem, paths in files.items():
        if not set(paths).isdisjoint(chosen):
            continue
        shards = [found.groups() for path in paths if (found := _SHARD.search(stem_of(path)))]
        if len(paths) > 1 and len(shards) < len(paths):
            raise UserError(
                f"{folder}: {', '.join(path.name for path in paths)} are all called {stem!r}; keep one, or "
                f"say which in {FILE}: files"
            )
        if shards and len(shards) != int(shards[0][1]):
            raise UserError(
                f"{folder}: {stem} is cut into {int(shards[0][1])} files, and {len(shards)} are there; add "
                f"the missing ones, or say which to read in {FILE}: files"
            )
    return files


def stem_of(path: Path) -> str:
    """A file's name without its endings."""
    name = path.name
    for ending in PACKED:
        name = name.removesuffix(ending)
    return Path(name).stem
