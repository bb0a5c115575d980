"""A source: the records of one task in one file or its shards, memory-mapped from their Arrow files."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from codiemb.data.arrow import added
from codiemb.data.cache import folder_name, read_sidecar
from codiemb.data.formats import check_file
from codiemb.data.records import Record, Text
from codiemb.errors import UserError

_NAME_CHARACTERS = 255


@dataclass(frozen=True)
class SourceFile:
    """A file as the config names it; its settings are those of `SourceConfig`.

    Files of one name are the shards of one source, in their order.

    Raises:
        UserError: a name that cannot stand in the name of a metric or of a file.
    """

    name: str
    path: Path
    score_range: tuple[float, float] = (0.0, 1.0)
    in_batch: bool = True

    def __post_init__(self) -> None:
        if problem := _name_problem(self.name):
            raise UserError(
                f"a source cannot be called {self.name!r} ({self.path}): {problem}. Its name stands in the "
                "names of metrics and files; give it another: +data.sources.NAME.path=FILE"
            )


class Source:
    """Records of one task, by index, from memory-mapped Arrow files: memory does not grow with the files.

    A record is found in O(log) of the number of blocks, of one file or of many.

    Args:
        name: in plans, metrics and batches.
        task: of all its records.
        arrow_files: that its files, in order, were converted to.
        abouts: what was counted then (`TaskWriter.about`), of each.
        in_batch: see `SourceConfig`.

    Attributes:
        about: what was counted, of all files together.
        longest: a record for each of the longest instructions of either side, with one-letter texts.

    Raises:
        UserError: a file holds another number of records than was counted.
    """

    def __init__(
        self,
        name: str,
        task: str,
        arrow_files: Sequence[Path],
        abouts: Sequence[Mapping[str, Any]],
        *,
        in_batch: bool = True,
    ) -> None:
        self.name = name
        self.task = task
        self.in_batch = in_batch
        self.about = added(abouts)
        parts = [_open(path, about["records"]) for path, about in zip(arrow_files, abouts, strict=True)]
        self._rows = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
        self.longest = [
            Record(task, Text(query, "x"), [Text(document, "x")], [], [1.0], [])
            for query, document in zip_longest(*self.about["longest_instructions"], fillvalue="")
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


def cache_folder(file: SourceFile, cache: Path) -> Path:
    """Where a file is converted to; another folder for every state of it that its size and time can tell.

    Raises:
        UserError: the file cannot be read.
    """
    state = check_file(file.path)
    return cache / folder_name(file.path.resolve(), state, str(file.score_range))


def open_sources(files: Sequence[SourceFile], cache: Path) -> list[Source]:
    """Open converted files; those of one name are one source, or one for each task where they hold several.

    Sizes are compared, and the number of records: `convert`, which one process runs before, has read and
    hashed the files.

    Raises:
        UserError: a file cannot be read, or its converted files are missing or have changed.
    """
    shards: dict[str, list[SourceFile]] = {}
    for file in files:
        shards.setdefault(file.name, []).append(file)
    return [source for group in shards.values() for source in _open_shards(group, cache)]


def _open_shards(files: Sequence[SourceFile], cache: Path) -> list[Source]:
    """The sources of one name, one for each task; a task need not stand in every file."""
    found: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
    for file in files:
        folder = cache_folder(file, cache)
        sidecar = read_sidecar(folder)
        if sidecar is None:
            raise _not_whole(folder)
        for task, about in sidecar["about"]["tasks"].items():
            found.setdefault(task, []).append((folder / f"{task}.arrow", about))
    name, in_batch = files[0].name, files[0].in_batch
    sources = []
    for task in sorted(found):
        arrow_files, abouts = zip(*found[task], strict=True)
        sources.append(
            Source(
                name if len(found) == 1 else f"{name}.{task}", task, arrow_files, abouts, in_batch=in_batch
            )
        )
    return sources


def _open(arrow_file: Path, num_records: int) -> Dataset:
    rows = Dataset.from_file(str(arrow_file))
    if len(rows) != num_records:
        raise _not_whole(arrow_file.parent)
    return rows


def _not_whole(folder: Path) -> UserError:
    return UserError(
        f"{folder}: the converted file is missing, or has changed since it was checked; "
        "start again, and it is converted again"
    )


def _name_problem(name: str) -> str:
    if not name.strip() or name != name.strip():
        return "it is empty, or begins or ends with a space"
    if name.startswith("."):
        return "it begins with a dot"
    if bad := [c for c in name if c in "/\\" or unicodedata.category(c)[0] == "C"]:
        return f"it holds {bad[0]!r}"
    if len(name) > _NAME_CHARACTERS:
        return f"it has {len(name)} characters, of at most {_NAME_CHARACTERS}"
    return ""
