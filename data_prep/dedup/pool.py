"""One source, or several taken together: their tables one after the other, with ids that tell them apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codiemb.errors import UserError
from data_prep.blocks import block, block_sizes, column, num_rows
from data_prep.layout import CORPUS, QRELS, QUERIES, read_source, tables_of
from data_prep.relations import Ids, Pairs, check_columns

# columns that name a query or a document
_NAMES = {"id", "query", "document", "cluster"}


class Place(NamedTuple):
    """A block of a table: of which source, which one, and the number of its first row in all."""

    source: int
    number: int
    first: int


@dataclass(frozen=True)
class Pool:
    """Sources that are one.

    Attributes:
        sources: their folders.
        names: what stands before the ids of each; "" where there is one source.
        about: what each says of itself.
        priority: of each source, 0 the highest.
    """

    sources: tuple[Path, ...]
    names: tuple[str, ...]
    about: tuple[dict[str, Any], ...]
    priority: tuple[int, ...]

    @staticmethod
    def of(sources: Sequence[Path], priority: Sequence[str] = ()) -> "Pool":
        """Sources of one task, each of a name of its own; those of `priority` first, then in their order.

        Raises:
            UserError: there is none, a table of one lacks a column, two have one name or different tasks, or
                a name of `priority` is none.
        """
        if not sources:
            raise UserError("dedup: nothing to read; give --in FOLDER, or several")
        about = tuple(read_source(source) for source in sources)
        names = [str(each["name"]) for each in about]
        for index, (name, each) in enumerate(zip(names, about, strict=True)):
            check_columns(sources[index])
            if name in names[:index]:
                raise UserError(
                    f"{sources[index]}: another source is called {name!r}, too; fetch it as another"
                )
            if each["task"] != about[0]["task"]:
                raise UserError(
                    f"{sources[index]}: its task is {each['task']}, that of {sources[0]} {about[0]['task']}; "
                    "take together sources of one task"
                )
        if unknown := [name for name in priority if name not in names]:
            raise UserError(f"dedup: priority={unknown[0]!r}: no such source; there are {', '.join(names)}")
        ranked = [*priority, *(name for name in names if name not in priority)]
        prefixes = [f"{name}:" for name in names] if len(names) > 1 else [""]
        return Pool(tuple(sources), tuple(prefixes), about, tuple(ranked.index(name) for name in names))

    @property
    def task(self) -> str:
        """Of all of them."""
        return str(self.about[0]["task"])

    def tables(self) -> list[str]:
        """The names of all tables that one of them has."""
        return list(dict.fromkeys(chain.from_iterable(map(tables_of, self.sources))))

    def having(self, table: str) -> Iterator[tuple[int, Path]]:
        """The sources that have a table: their number, and the file."""
        paths = ((number, source / table) for number, source in enumerate(self.sources))
        return ((number, path) for number, path in paths if path.is_file())

    def places(self, table: str) -> list[Place]:
        """The blocks of a table."""
        found, first = list[Place](), 0
        for number, path in self.having(table):
            for index, rows in enumerate(block_sizes(path)):
                found.append(Place(number, index, first))
                first += rows
        return found

    def block(self, table: str, place: Place) -> pa.Table:
        """A block, its ids with the name of their source."""
        read = block(self.sources[place.source] / table, place.number)
        for name in _NAMES.intersection(read.column_names):
            read = read.set_column(read.column_names.index(name), name, self._named(place.source, read[name]))
        return read

    def column(self, table: str, name: str) -> pa.ChunkedArray:
        """A whole column, in the order of the blocks."""
        parts = []
        for number, path in self.having(table):
            values = column(path, name)
            parts.append(self._named(number, values) if name in _NAMES else values)
        return pa.chunked_array(chain.from_iterable(part.chunks for part in parts), parts[0].type)

    def source_of(self, table: str) -> np.ndarray:
        """The priority of the source of each row."""
        counts = [(self.priority[number], num_rows(path)) for number, path in self.having(table)]
        return np.repeat(*np.array(counts or [(0, 0)], np.int64).T)

    def judgements(self) -> Pairs:
        """All rows of qrels, as row numbers of the tables of the pool.

        Raises:
            UserError: an id that is nowhere.
        """
        parts, queries, documents = list[Pairs](), 0, 0
        for source in self.sources:
            ids = Ids.read(source)
            found = ids.pairs(source / QRELS, "grade")
            parts.append(Pairs(found.query + queries, found.document + documents, found.value))
            queries, documents = queries + len(ids.query), documents + len(ids.document)
        return Pairs.joined(parts)

    def has_queries(self) -> bool:
        """Whether these are more than texts."""
        return all((source / name).is_file() for source in self.sources for name in (QUERIES, QRELS, CORPUS))

    def _named(self, number: int, values: pa.ChunkedArray) -> pa.ChunkedArray:
        prefix = self.names[number]
        return pc.binary_join_element_wise(prefix, values, "") if prefix else values
