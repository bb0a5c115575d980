"""What a step of the road is, and what it is given when it runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from codiemb.atomic import sync
from data_prep.blocks import TableWriter, block, blocks, num_blocks
from data_prep.layout import schema_of
from data_prep.progress import Progress

Options = TypeVar("Options")


@dataclass(frozen=True)
class Step(Generic[Options]):
    """What a file in `data_prep/steps` offers under the name STEP.

    Attributes:
        parameters: the dataclass of its options.
        run: writes the result to `Work.out`; tables that it does not write are taken over as they are.
        version: raised when the same input and parameters give another result.
        depends_on: what else the result follows from: hashes of raw files, an encoder's fingerprint.
        inputs: how many folders it reads: none, one, optional (none or one), or many: as many as there are.
        makes_source: whether the result is a source again, for the next step.
    """

    parameters: type[Options]
    run: Callable[["Work[Options]"], Mapping[str, Any] | None]
    version: int = 1
    depends_on: Callable[[Options], Mapping[str, Any]] = field(default=lambda options: {})
    inputs: str = "one"
    makes_source: bool = True


@dataclass(frozen=True)
class Work(Generic[Options]):
    """What a running step is given.

    Attributes:
        name: of the step: what its verdicts are signed with.
        sources: the folders to read.
        out: the folder to write to.
        parts: finished pieces of an interrupted run; it vanishes when the step is done.
        options: the step's parameters.
        about: what `depends_on` returned.
        destination: what `out` becomes when the step is done.
    """

    name: str
    sources: Sequence[Path]
    out: Path
    parts: Path
    options: Options
    about: Mapping[str, Any]
    destination: Path

    @property
    def source(self) -> Path:
        """The one folder to read."""
        return self.sources[0]

    def part(self, name: str, make: Callable[[Path], None]) -> Path:
        """A piece of the work, made unless an interrupted run has made it."""
        path = self.parts / name
        if not path.exists():
            unfinished = self.parts / f"{name}.unfinished"
            unfinished.unlink(missing_ok=True)
            make(unfinished)
            sync(unfinished)
            os.replace(unfinished, path)
        return path

    def table_part(self, name: str, schema: pa.Schema, make: Callable[[], pa.Table]) -> Path:
        """A piece that is a table; `make` is called only if the piece is not there."""

        def write(path: Path) -> None:
            with TableWriter(path, schema) as file:
                file.write(make())

        return self.part(name, write)

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table], added: Sequence[Path] = ()) -> None:
        """Write a table anew, block by block; `change` sees one block and must depend on it alone.

        Rows of the files `added` come behind those that were there.
        """
        source, schema = self.source / name, schema_of(name)
        count = num_blocks(source)
        progress = Progress(f"{self.name} {name}", count, "blocks")
        stem = name.replace("/", "-").removesuffix(".parquet")
        parts = []
        for index in range(count):
            make = partial(_changed, change, source, index)
            parts.append(self.table_part(f"{stem}-{index:06d}.parquet", schema, make))
            progress.advance(1)
        join([*parts, *added], self.out / name, schema)


def _changed(change: Callable[[pa.Table], pa.Table], source: Path, index: int) -> pa.Table:
    return change(block(source, index))


def join(parts: Sequence[Path], path: Path, schema: pa.Schema) -> None:
    """One file of several, block by block."""
    with TableWriter(path, schema) as file:
        for part in parts:
            for each in blocks(part):
                file.write(each)
