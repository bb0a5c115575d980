"""Small sources, as `fetch` writes them, from Python values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codiemb.data import content_hash
from data_prep.layout import CANDIDATES, CORPUS, QRELS, QUERIES, SOURCE, document_text, schema_of
from data_prep.manifest import MANIFEST, identity, write_manifest

Rows = Mapping[str, str] | Iterable[Mapping[str, Any]]  # texts by id, or rows of the table


def make_source(
    folder: Path,
    queries: Rows,
    documents: Rows,
    qrels: Iterable[Sequence[Any]] = (),
    candidates: Mapping[str, Iterable[Sequence[Any]]] | None = None,
    task: str = "ir",
    name: str = "toy",
    about: Mapping[str, Any] | None = None,
    block_rows: int = 16_384,
) -> Path:
    """Write a source with its manifest; returns the folder.

    Args:
        folder: to write to.
        queries, documents: texts by id, or rows as dictionaries; columns left out are null.
        qrels: (query, document) or (query, document, grade); the grade is 1 unless said.
        candidates: by scorer: (query, document, rank, score), and dropped_by and reason if there are any.
        task, name: of the source.
        about: what else stands in source.json.
        block_rows: of a block, for tests of what goes over a block's end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SOURCE).write_text(json.dumps({"name": name, "task": task, **(about or {})}), "utf-8")
    write_table(folder / QUERIES, QUERIES, _texts(queries), block_rows)
    write_table(folder / CORPUS, CORPUS, [_hashed(row) for row in _texts(documents)], block_rows)
    write_table(folder / QRELS, QRELS, [_judgement(*row) for row in qrels], block_rows)
    for scorer, rows in (candidates or {}).items():
        table = f"{CANDIDATES}/{scorer}.parquet"
        write_table(folder / table, table, [_candidate(scorer, *row) for row in rows], block_rows)
    made: dict[str, Any] = {"step": "fetch", "version": 1, "parameters": {}, "inputs": [], "depends_on": {}}
    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier call: a manifest does not list itself
    write_manifest(folder, made | {"identity": identity({**made, "name": name})}, [])
    return folder


def restate(folder: Path) -> None:
    """Let the manifest state the files as they are now: what a test has changed counts as the step's own."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    for name in list(manifest["files"]):
        if (folder / name).is_file():
            manifest["files"][name]["bytes"] = (folder / name).stat().st_size
        else:
            del manifest["files"][name]
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


def write_table(path: Path, name: str, rows: Sequence[Mapping[str, Any]], block_rows: int = 16_384) -> None:
    """Rows as dictionaries to a table of the layout; columns left out are null."""
    schema = schema_of(name)
    whole = [{column: row.get(column) for column in schema.names} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(whole, schema=schema), path, row_group_size=block_rows, compression="zstd"
    )


def _texts(rows: Rows) -> list[dict[str, Any]]:
    if isinstance(rows, Mapping):
        return [{"id": key, "text": text} for key, text in rows.items()]
    return [dict(row) for row in rows]


def _hashed(row: dict[str, Any]) -> dict[str, Any]:
    return {"hash": content_hash(document_text(row.get("title"), row["text"])), **row}


def _judgement(query: str, document: str, grade: float = 1.0, origin: str = "test") -> dict[str, Any]:
    return {"query": query, "document": document, "grade": grade, "origin": origin}


def _candidate(
    scorer: str,
    query: str,
    document: str,
    rank: int | None,
    score: float,
    dropped_by: str | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    return {
        "query": query,
        "document": document,
        "rank": rank,
        "score": score,
        "scorer": scorer,
        "dropped_by": dropped_by,
        "reason": reason,
    }
