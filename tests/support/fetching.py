"""Raw files in any layout, and what fetch made of them."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.options import build
from data_prep.runner import run_step
from data_prep.steps.fetch import FetchOptions

Content = list[Any]  # rows: objects for Parquet and JSON, lists of fields for tables, texts as they are


def write_raw(path: Path, rows: Content) -> Path:
    """A file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    packed = path.suffix if path.suffix in (".gz", ".zst") else ""
    data = as_bytes(path.name.removesuffix(packed), rows)
    if packed == ".gz":
        data = gzip.compress(data)
    if packed == ".zst":
        data = pa.Codec("zstd").compress(data, asbytes=True)
    path.write_bytes(data)
    return path


def as_bytes(name: str, rows: Content) -> bytes:
    """What stands in a file of that name."""
    if rows and isinstance(rows[0], dict):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if name.endswith((".csv", "_candidates.txt")):
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(rows)
        return table.getvalue().encode()
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def write_all(folder: Path, files: dict[str, Content]) -> Path:
    """A folder of raw files."""
    for name, rows in files.items():
        write_raw(folder / name, rows)
    return folder


def fetch(out: Path, **options: Any) -> Path:
    """Run the step in this process; `from_` is the option `from`."""
    values = {
        name.removesuffix("_"): str(value) if isinstance(value, Path) else value
        for name, value in options.items()
    }
    run_step("fetch", [], out, build(FetchOptions, values, "test"))
    return out


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table; none where there is no such file."""
    path = folder / f"{name}.parquet"
    return pq.read_table(path).to_pylist() if path.is_file() else []


def judged(folder: Path) -> set[tuple[str, str, float]]:
    """(text of the query, text of the document, grade) of every judgement."""
    queries = {row["id"]: row["text"] for row in table(folder, "queries")}
    documents = {row["id"]: row["text"] for row in table(folder, "corpus")}
    return {
        (queries[row["query"]], documents[row["document"]], row["grade"]) for row in table(folder, "qrels")
    }
