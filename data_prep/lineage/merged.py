"""What dedup has made one: the documents and queries that a kept one stands for."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.blocks import blocks
from data_prep.layout import CORPUS, QUERIES
from data_prep.lineage.subjects import Subject, Subjects
from data_prep.lineage.tables import Rows

_DEDUP = "dedup"


def with_merged(folder: Path, subjects: Subjects, rows: Rows) -> dict[Subject, str]:
    """What `folder`, which dedup wrote, has merged into the subjects, beside them; named as their copies."""
    documents = {subject.ids[0]: name for subject, name in subjects.items() if subject.table == CORPUS}
    copies = _queries(folder / QUERIES, subjects, rows) | _documents(folder / CORPUS, documents)
    named = {
        Subject(table, (key,)): f"copy of {subjects[Subject(table, (of,))]}"
        for (table, key), of in copies.items()
    }
    by_kept: dict[tuple[str, str], list[str]] = {}
    for (table, key), of in copies.items():
        by_kept.setdefault((table, of), []).append(key)
    pairs = {
        Subject(subject.table, pair): f"copy of {name}"
        for subject, name in subjects.items()
        if len(subject.ids) > 1
        for pair in _pairs(subject, by_kept)
    }
    return {**subjects, **named, **pairs, **subjects}  # first in order, and under their own names


def _pairs(subject: Subject, copies: Mapping[tuple[str, str], Sequence[str]]) -> list[tuple[str, str]]:
    query, document = subject.ids
    queries = [query, *copies.get((QUERIES, query), ())]
    return list(product(queries, [document, *copies.get((CORPUS, document), ())]))


def _documents(path: Path, kept: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Documents of whose flags one says that they are a duplicate of a kept one."""
    found, flags = dict[tuple[str, str], str](), {f"duplicate of {each}": each for each in kept}
    values = pa.array(flags, pa.string())
    for block in blocks(path, ["id", "flags", "dropped_by"]):
        dropped = block.filter(pc.equal(block["dropped_by"], _DEDUP)).combine_chunks()
        flat = pc.list_flatten(dropped["flags"])
        hits = pc.is_in(flat, value_set=values)
        rows = pc.list_parent_indices(dropped["flags"]).filter(hits)
        named = zip(dropped["id"].take(rows).to_pylist(), flat.filter(hits).to_pylist(), strict=True)
        found |= {(CORPUS, key): flags[flag] for key, flag in named}
    return found


def _queries(path: Path, subjects: Subjects, rows: Rows) -> dict[tuple[str, str], str]:
    """Queries that were dropped for the text and the instruction of a kept one."""
    asked = {
        _key(row): subject.ids[0]
        for subject in subjects
        if subject.table == QUERIES
        for row in rows.get(subject, ())
    }
    found: dict[tuple[str, str], str] = {}
    for block in blocks(path, ["id", "text", "instruction", "dropped_by"]) if asked else ():
        for row in block.filter(pc.equal(block["dropped_by"], _DEDUP)).to_pylist():
            if (of := asked.get(_key(row))) is not None and of != row["id"]:
                found[QUERIES, row["id"]] = of
    return found


def _key(row: Mapping[str, Any]) -> tuple[int, str]:
    """What dedup compares queries by."""
    from codiemb.data import content_hash  # here, for it brings torch: seconds that other ways do without

    return content_hash(row["text"] or ""), row["instruction"] or ""
