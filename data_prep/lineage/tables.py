"""Some rows of large tables: their ids are read block by block, and whole rows only where one is found."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.blocks import block, blocks
from data_prep.lineage.subjects import Subject, Subjects, tables_in
from data_prep.manifest import hash_file, read_manifest

Row = dict[str, Any]
Rows = Mapping[Subject, list[Row]]


class Tables:
    """The tables of the folders on the way; one that several folders share is read once.

    Memory: a block of a table, and the rows that are asked for.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[int, int], str] = {}
        self._rows: dict[tuple[str, Subject], list[Row]] = {}

    def changed(self, folder: Path, subjects: Subjects) -> list[str]:
        """Tables whose bytes are not those that the step wrote, or that are gone."""
        files = read_manifest(folder)["files"]
        return [
            table
            for table, _ in tables_in(subjects)
            if table in files and self.hash(folder / table) != files[table]["sha256"]
        ]

    def hash(self, path: Path) -> str:
        """sha256 of a file; "" where there is none."""
        if not path.is_file():
            return ""
        about = path.stat()
        key = about.st_dev, about.st_ino
        if key not in self._hashes:
            self._hashes[key] = hash_file(path)
        return self._hashes[key]

    def rows(self, folder: Path, subjects: Subjects) -> Rows:
        """The rows of subjects in a folder, in the order of their table; none of what is not there."""
        files, found = read_manifest(folder)["files"], dict[Subject, list[Row]]()
        for table, wanted in tables_in(subjects):
            if table not in files:
                continue
            content = files[table]["sha256"]
            new = [subject for subject in wanted if (content, subject) not in self._rows]
            if new:
                read = _find(folder / table, [subject.ids for subject in new])
                self._rows |= {(content, subject): read.get(subject.ids, []) for subject in new}
            found |= {subject: self._rows[content, subject] for subject in wanted}
        return found


def _find(path: Path, wanted: list[tuple[str, ...]]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by id, or by query and document."""
    names = ["id"] if len(wanted[0]) == 1 else ["query", "document"]
    values = [pa.array(sorted(set(column)), pa.string()) for column in zip(*wanted, strict=True)]
    found, keys = defaultdict[tuple[str, ...], list[Row]](list), set(wanted)
    for index, ids in enumerate(blocks(path, names)):
        hits = np.ones(len(ids), dtype=bool)
        for name, value in zip(names, values, strict=True):
            hits &= pc.is_in(ids[name], value_set=value).to_numpy()
        if hits.any():
            for row in block(path, index).take(np.flatnonzero(hits)).to_pylist():
                key = tuple(row[name] for name in names)
                if key in keys:
                    found[key].append(row)
    return found
