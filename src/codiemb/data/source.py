"""A source: the records of one task in one file or its shards, memory-mapped from their Arrow files."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset, concatenate_datasets

from codiemb.data.arrow import added
from codiemb.data.cache import read_sidecar
from codiemb.data.records import Record, Text
from codiemb.data.source_file import SourceFile, cache_folder
from codiemb.errors import UserError


class Source:
    """Records of one task, by index, from memory-mapped Arrow files: memory does not grow with the files.

    A record is found in O(log) of the number of blocks, of one file or of many.

    Args:
        name: in plans, metrics and batches.
        task: of all its records.
        arrow_files: that its files, in order, were converted to.
        abouts: what was counted then (`TaskWriter.about`), of each.
        in_batch: see `SourceConfig`.
        digest: of the content of its files; "" where nobody asks.

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
        digest: str = "",
    ) -> None:
        self.name = name
        self.task = task
        self.in_batch = in_batch
        self.digest = digest
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
        return self._record(self._rows[index])

    def take(self, indices: Sequence[int]) -> list[Record]:
        """Several records at once: a quarter to a half of the time of one by one."""
        columns = self._rows[indices]
        rows = zip(*columns.values(), strict=True)
        return [self._record(dict(zip(columns, row, strict=True))) for row in rows]

    def _record(self, row: Mapping[str, Any]) -> Record:
        return Record(
            self.task,
            Text(*row["query"]),
            [Text(*text) for text in row["positives"]],
            [Text(*text) for text in row["negatives"]],
            row["positive_scores"],
            row["negative_scores"],
        )


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
    found: dict[str, list[tuple[Path, Mapping[str, Any], str]]] = {}
    for file in files:
        folder = cache_folder(file, cache)
        sidecar = read_sidecar(folder)
        if sidecar is None:
            raise _not_whole(folder)
        for task, about in sidecar["about"]["tasks"].items():
            found.setdefault(task, []).append((folder / f"{task}.arrow", about, sidecar["about"]["hash"]))
    name, in_batch = files[0].name, files[0].in_batch
    sources = []
    for task in sorted(found):
        arrow_files, abouts, hashes = zip(*found[task], strict=True)
        whole = name if len(found) == 1 else f"{name}.{task}"
        digest = xxhash.xxh3_128_hexdigest(" ".join(hashes).encode())
        sources.append(Source(whole, task, arrow_files, abouts, in_batch=in_batch, digest=digest))
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
