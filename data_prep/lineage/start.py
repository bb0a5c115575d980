"""Where a way begins: a line of a file that export wrote, or a row of a table in a step's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from codiemb.errors import UserError
from data_prep.blocks import block, block_sizes
from data_prep.layout import CANDIDATES, CORPUS, QUERIES, SCHEMAS
from data_prep.lineage.subjects import Subject, Subjects, described, pairs_of, shown
from data_prep.manifest import MANIFEST, hash_file, inputs_of, read_manifest

_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_RECORDS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
_SIDES = (("positive", "positives"), ("negative", "negatives"))


class Start(NamedTuple):
    """A folder, what of it is followed, and how it looks."""

    folder: Path
    subjects: Subjects
    lines: Sequence[str]


def find_start(file: Path, line: int) -> Start:
    """What stands at a line of a file, or in a row of a Parquet file; both count from 1.

    Raises:
        UserError: there is no such file or line, no step wrote it, it was changed since, or it holds no rows.
    """
    if line < 1:
        raise UserError(f"lineage: LINE is {line}; lines and rows count from 1")
    folder, name = _written(file)
    is_table = name in SCHEMAS or name.startswith(f"{CANDIDATES}/")
    if not is_table and (read_manifest(folder)["step"] != "export" or not name.endswith(_RECORDS)):
        raise UserError(f"{file}: holds no records; lineage reads what export wrote, and tables of a source")
    row = _row(file, line)
    return _of_table(folder, name, row) if is_table else _of_record(folder, row)


def _written(file: Path) -> tuple[Path, str]:
    """The folder of the step that wrote a file, and the file's name in it."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    for folder in list(file.absolute().parents)[:2]:  # candidates lie a folder below
        about = read_manifest(folder).get("files", {}).get(str(file.absolute().relative_to(folder)))
        if isinstance(about, dict):
            if hash_file(file) != about["sha256"]:
                raise UserError(
                    f"{file}: was changed since its step wrote it (its sha256 is not that of "
                    f"{folder / MANIFEST}), so no line of it can be followed; run that step again"
                )
            return _as_given(file, folder), str(file.absolute().relative_to(folder))
    raise UserError(
        f"{file}: no step wrote it (no {MANIFEST} beside it names it); lineage follows a line of what export "
        "wrote, or a row of a table in a step's folder"
    )


def _as_given(file: Path, folder: Path) -> Path:
    """The folder as the user names it, for what is printed."""
    return file.parent if file.parent.absolute() == folder else file.parent.parent


def _row(file: Path, line: int) -> dict[str, Any]:
    if file.suffix == ".parquet":
        first = 0
        for index, size in enumerate(block_sizes(file)):
            if line <= first + size:
                found: dict[str, Any] = block(file, index).slice(line - 1 - first, 1).to_pylist()[0]
                return found
            first += size
        raise UserError(f"{file}: has {first:,} rows, and no row {line:,}")
    count = 0
    with pa.input_stream(str(file), compression=_COMPRESSION.get(file.suffix)) as packed:
        rest = b""
        while chunk := packed.read(1 << 20):
            more = chunk.count(b"\n")
            if count + more >= line:
                lines = (rest + chunk).split(b"\n")
                return dict(json.loads(lines[line - 1 - count]))
            count, rest = count + more, (rest + chunk).rpartition(b"\n")[2]
    raise UserError(f"{file}: has {count:,} lines, and no line {line:,}")


def _of_record(folder: Path, row: dict[str, Any]) -> Start:
    """A record; its pairs are looked for in the tables that it was made from."""
    if "text" in row:
        lines = [_line("document", row["id"], row["text"])]
        return Start(folder, {Subject(CORPUS, (row["id"],)): "document"}, lines)
    lines, names = [_line("query", row["id"], row["query"][2])], dict[str, str]()
    for name, texts in _SIDES:
        sides = zip(row.get(f"{name}_ids") or (), row.get(texts) or (), strict=True)
        for number, (key, text) in enumerate(sides, start=1):
            names[key] = f"{name} {number}"
            lines.append(_line(names[key], key, text[2]))
    subjects = {Subject(QUERIES, (row["id"],)): "query"}
    subjects |= {Subject(CORPUS, (key,)): name for key, name in names.items()}
    for made_from in inputs_of(folder):
        subjects |= pairs_of(row["id"], names, made_from.folder)
    return Start(folder, subjects, lines)


def _of_table(folder: Path, name: str, row: dict[str, Any]) -> Start:
    if "id" in row:
        what = "query" if name == QUERIES else "document"
        return Start(folder, {Subject(name, (row["id"],)): what}, [_line(what, row["id"], row["text"])])
    query, document = row["query"], row["document"]
    pair = Subject(name, (query, document))
    subjects = {Subject(QUERIES, (query,)): "query", Subject(CORPUS, (document,)): "document"}
    subjects |= {pair: "document"} | pairs_of(query, {document: "document"}, folder)
    return Start(folder, subjects, [f"query       {query}", f"document    {document}", described(pair, row)])


def _line(name: str, key: str, text: str) -> str:
    return f"{name:<11} {key}  {shown(text)}"
