"""A source: one file's records of one task, memory-mapped from the Arrow file that it was converted to."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datasets import Dataset

from codiemb.data.cache import folder_name, read_sidecar
from codiemb.data.formats import check_file
from codiemb.data.records import Record, Text
from codiemb.errors import UserError

_NAME_CHARACTERS = 255


@dataclass(frozen=True)
class SourceFile:
    """A file as the config names it; its settings are those of `SourceConfig`.

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
    """Records of one task, by index, from a memory-mapped Arrow file: memory does not grow with the file.

    `longest` holds a record of the longest instructions of each side, with one-letter texts. `about` is what
    was counted when the file was converted: see `TaskWriter.about`.
    """

    def __init__(
        self, name: str, task: str, arrow_file: Path, about: Mapping[str, Any], *, in_batch: bool = True
    ) -> None:
        self.name = name
        self.task = task
        self.in_batch = in_batch
        self.about = about
        self._rows = Dataset.from_file(str(arrow_file))
        if len(self._rows) != about["records"]:
            raise _not_whole(arrow_file.parent)
        self.longest = [
            Record(task, Text(query, "x"), [Text(document, "x")], [], [1.0], [])
            for query, document in zip_longest(*about["longest_instructions"], fillvalue="")
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
    """Open converted files; a file that holds several tasks becomes several sources.

    Sizes are compared, and the number of records: `convert`, which one process runs before, has read and
    hashed the files.

    Raises:
        UserError: a file cannot be read, or its converted files are missing or have changed.
    """
    sources = []
    for file in files:
        folder = cache_folder(file, cache)
        sidecar = read_sidecar(folder)
        if sidecar is None:
            raise _not_whole(folder)
        tasks = sidecar["about"]["tasks"]
        for task in sorted(tasks):
            name = file.name if len(tasks) == 1 else f"{file.name}.{task}"
            arrow_file = folder / f"{task}.arrow"
            sources.append(Source(name, task, arrow_file, tasks[task], in_batch=file.in_batch))
    return sources


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
