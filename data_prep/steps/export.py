"""Write unified records, as training reads them: a query, its positives and negatives, ids and scores.

Negatives are the documents that were judged and found wrong, and the candidates that mining has chosen; none
that is known to be right, by its content or its cluster. A group is as long as it is: nothing is filled up.
Scores are the teacher's, null where it has not scored a document.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from codiemb.data.records import RAW_TASKS
from codiemb.errors import UserError
from data_prep.blocks import blocks, num_rows
from data_prep.export.record_file import Format, count_records, write_records
from data_prep.export.records import Record, RecordMaker, raw_texts
from data_prep.layout import CANDIDATES, CORPUS, QUERIES, SOURCE, read_source
from data_prep.options import option
from data_prep.progress import Progress
from data_prep.runner import link
from data_prep.step import Step, Work
from data_prep.texts import Texts


@dataclass(frozen=True)
class Parameters:
    """What is written, and how."""

    format: Format = option("jsonl", "jsonl, jsonl.gz, jsonl.zst or parquet; a file for each 16,384 queries")
    negatives: list[str] = option([], "scorers whose chosen candidates become negatives (default: all)")
    teacher: str = option("", "the scorer whose scores are written (default: the only one, if there is one)")
    given: bool = option(True, "documents that came as negatives, or were judged wrong, are negatives, too")
    num_negatives: int | None = option(None, "of a query, at most: given ones first, then by rank")


Make = Callable[[int, pa.Table], Iterator[Record]]


def run(work: Work[Parameters]) -> dict[str, Any]:
    """Write NAME.jsonl, or NAME-00000.jsonl and so on; returns the number of records for the manifest.

    Raises:
        UserError: there is nothing to write.
    """
    about, kind, limit = read_source(work.source), work.options.format, work.options.num_negatives
    if limit is not None and limit < 0:  # a list up to -1 lacks its last
        raise UserError(f"export: num_negatives={limit} must be at least 0")
    raw = about["task"] in RAW_TASKS
    table = work.source / (CORPUS if raw else QUERIES)
    make: Make = _raw if raw else _maker(work, about["task"]).of_block
    parts, first = [], 0
    progress = Progress(work.name, num_rows(table))
    for index, block in enumerate(blocks(table)):
        parts.append(work.part(f"{index:05d}.{kind}", _writer(make, first, block, kind)))
        first += len(block)
        progress.advance(len(block))
    count = sum(count_records(part, kind) for part in parts)
    if not count:
        raise UserError(f"{work.source}: not one record: no query with a positive is kept")
    for index, part in enumerate(parts):
        name = about["name"] if len(parts) == 1 else f"{about['name']}-{index:05d}"
        link(part, work.out / f"{name}.{kind}")
    link(work.source / SOURCE, work.out / SOURCE)
    return {"records": count}


def _maker(work: Work[Parameters], task: str) -> RecordMaker:
    options, source = work.options, work.source
    scorers = [path.stem for path in sorted((source / CANDIDATES).glob("*.parquet"))]
    for name in [*options.negatives, *filter(None, [options.teacher])]:
        if name not in scorers:
            raise UserError(
                f"{source / CANDIDATES}: no scorer {name!r}; there are {', '.join(scorers) or 'none'}"
            )
    return RecordMaker(
        source,
        Texts(work.part("texts.arrow", lambda path: Texts.write(source / CORPUS, path))),
        task,
        negatives=options.negatives or scorers,
        teacher=options.teacher or (scorers[0] if len(scorers) == 1 else ""),
        given=options.given,
        num_negatives=options.num_negatives,
    )


def _raw(first: int, block: pa.Table) -> Iterator[Record]:
    return raw_texts(block)


def _writer(make: Make, first: int, block: pa.Table, kind: Format) -> Callable[[Path], None]:
    return lambda path: write_records(path, make(first, block), kind)


STEP = Step(Parameters, run, version=2, makes_source=False)
