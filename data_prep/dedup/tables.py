"""Write the tables of a pool with the verdicts of dedup, block by block."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from codiemb.atomic import write_text
from codiemb.data.records import GRADED_TASKS
from data_prep.blocks import MAX_ROWS
from data_prep.dedup import judgements, repeats
from data_prep.dedup.pool import Place, Pool
from data_prep.dedup.repeats import Repeats
from data_prep.layout import CORPUS, QRELS, QUERIES, SOURCE, schema_of
from data_prep.relations import Pairs
from data_prep.step import Work, join
from data_prep.verdicts import mark

# the number of a block's first row in the table, and the block -> the block as it is written
Change = Callable[[int, pa.Table], pa.Table]


class Tables:
    """What dedup writes, from what was there."""

    def __init__(self, work: Work[Any], pool: Pool) -> None:
        self._work, self._pool = work, pool
        self._query_of = np.zeros(0, np.int64)

    def documents(self, found: Repeats) -> None:
        """The corpus: its clusters, what is dropped, and which document each of those repeats."""
        ids = self._pool.column(CORPUS, "id")

        def change(first: int, block: pa.Table) -> pa.Table:
            rows = slice(first, first + len(block))
            reasons = [repeats.REASONS[code] for code in found.why[rows].tolist()]
            cluster = pa.array(found.cluster[rows], mask=found.cluster[rows] < 0)
            block = _put(block, "cluster", ids.take(cluster).combine_chunks())
            of = ids.take(pa.array(found.of[rows])).to_pylist()
            return mark(_put(block, "flags", _flags(block, reasons, of)), self._work.name, reasons)

        self._write(CORPUS, change)

    def queries(self, query_of: np.ndarray) -> None:
        """The queries, those dropped that repeat another."""
        self._query_of = query_of
        repeated = query_of != np.arange(len(query_of))

        def change(first: int, block: pa.Table) -> pa.Table:
            rows = repeated[first : first + len(block)].tolist()
            return mark(
                block, self._work.name, ["same text" if is_repeated else None for is_repeated in rows]
            )

        self._write(QUERIES, change)

    def judgements(self, document_of: np.ndarray) -> None:
        """The qrels, after `queries`: what speaks of a dropped text speaks of the one that stays."""
        pool, pairs = self._pool, self._pool.judgements()
        live = kept(pool, QRELS) & kept(pool, QUERIES)[pairs.query] & kept(pool, CORPUS)[pairs.document]
        better = pool.source_of(QRELS) if pool.task in GRADED_TASKS else np.zeros(len(live), np.int64)
        merged = judgements.merge(pairs, live, self._query_of, document_of, better)

        def change(first: int, block: pa.Table) -> pa.Table:
            codes = merged.verdict[first : first + len(block)].tolist()
            return mark(block, self._work.name, [judgements.REASONS[code] for code in codes])

        parts = [*self._parts(QRELS, change), *self._added(merged.added)]
        join(parts, self._work.out / QRELS, schema_of(QRELS))

    def others(self, name: str) -> None:
        """Of several sources the candidates, and what is said of them; those of one are taken over."""
        if len(self._pool.sources) == 1:
            return
        for table in self._pool.tables():
            if table not in (QUERIES, CORPUS, QRELS):
                self._write(table, lambda first, block: block)
        licences = dict.fromkeys(str(each.get("licence") or "not said") for each in self._pool.about)
        about = {
            "name": name,
            "task": self._pool.task,
            "licence": "; ".join(licences),
            "sources": {str(each["name"]): each for each in self._pool.about},
        }
        write_text(self._work.out / SOURCE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")

    def _write(self, name: str, change: Change) -> None:
        join(self._parts(name, change), self._work.out / name, schema_of(name))

    def _parts(self, name: str, change: Change) -> list[Path]:
        stem = name.replace("/", "-").removesuffix(".parquet")
        places = enumerate(self._pool.places(name))
        return [
            self._work.table_part(
                f"{stem}-{number:06d}.parquet", schema_of(name), partial(self._changed, name, place, change)
            )
            for number, place in places
        ]

    def _changed(self, name: str, place: Place, change: Change) -> pa.Table:
        return change(place.first, self._pool.block(name, place))

    def _added(self, added: Pairs) -> Iterator[Path]:
        """The judgements that stand in the place of merged ones, as files."""
        queries, documents = self._pool.column(QUERIES, "id"), self._pool.column(CORPUS, "id")
        for start in range(0, len(added.query), MAX_ROWS):
            query, document, grade = (column[start : start + MAX_ROWS] for column in added)
            columns = {
                "query": queries.take(pa.array(query)),
                "document": documents.take(pa.array(document)),
                "grade": pa.array(grade),
                "origin": pa.array([self._work.name] * len(grade)),
            }
            yield self._work.table_part(
                f"added-{start:09d}.parquet", schema_of(QRELS), partial(pa.table, columns)
            )


def kept(pool: Pool, table: str) -> np.ndarray:
    """Which rows of a table no step has dropped before."""
    return np.asarray(pool.column(table, "dropped_by").is_null().to_numpy(), dtype=bool)


def _flags(block: pa.Table, reasons: list[str | None], of: list[str]) -> pa.Array:
    flags = [
        old if reason is None else [*(old or ()), f"duplicate of {kept_one}"]
        for old, reason, kept_one in zip(block["flags"].to_pylist(), reasons, of, strict=True)
    ]
    return pa.array(flags, block.schema.field("flags").type)


def _put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
