"""Write unified records to a file: JSON lines, compressed or not, or Parquet with the same columns."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from data_prep.blocks import TableWriter, num_rows

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]
_COMPRESSION = {"jsonl.gz": "gzip", "jsonl.zst": "zstd"}
_ROWS = 512  # that wait for their block

_TEXT = pa.list_(pa.string())  # [task_instruction, instance_instruction, text]
_SCHEMA = pa.schema(
    [
        ("task_type", pa.string()),
        ("query", _TEXT),
        ("positives", pa.list_(_TEXT)),
        ("negatives", pa.list_(_TEXT)),
        ("positive_scores", pa.list_(pa.float64())),
        ("negative_scores", pa.list_(pa.float64())),
        ("id", pa.string()),
        ("positive_ids", pa.list_(pa.string())),
        ("negative_ids", pa.list_(pa.string())),
    ]
)
_RAW_SCHEMA = pa.schema([("task_type", pa.string()), ("text", pa.string()), ("id", pa.string())])


def write_records(path: Path, records: Iterable[dict[str, Any]], kind: Format) -> None:
    """Write records in their order; the same records give the same bytes."""
    if kind == "parquet":
        _write_parquet(path, records)
    else:
        _write_lines(path, records, kind)


def count_records(path: Path, kind: Format) -> int:
    """How many records such a file holds."""
    if kind == "parquet":
        return num_rows(path)
    with pa.input_stream(str(path), compression=_COMPRESSION.get(kind)) as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _write_lines(path: Path, records: Iterable[dict[str, Any]], kind: Format) -> None:
    with ExitStack() as stack:
        file = stack.enter_context(pa.OSFile(str(path), "wb"))
        if kind in _COMPRESSION:
            file = stack.enter_context(pa.CompressedOutputStream(file, _COMPRESSION[kind]))
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _write_parquet(path: Path, records: Iterable[dict[str, Any]]) -> None:
    waiting: list[dict[str, Any]] = []
    writer: TableWriter | None = None
    with ExitStack() as stack:
        for record in records:
            waiting.append(record)
            if writer is None:
                writer = stack.enter_context(TableWriter(path, _RAW_SCHEMA if "text" in record else _SCHEMA))
            if len(waiting) == _ROWS:
                writer.write(pa.Table.from_pylist(waiting, writer.schema))
                waiting = []
        if writer is None:
            writer = stack.enter_context(TableWriter(path, _SCHEMA))
        if waiting:
            writer.write(pa.Table.from_pylist(waiting, writer.schema))
