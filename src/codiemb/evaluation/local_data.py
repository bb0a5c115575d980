"""Reads the evaluation folders that data preparation writes; a bad row is an error with file and line."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from codiemb.errors import UserError
from codiemb.json_files import numbered_lines

Row = dict[str, Any]
Fields = Mapping[str, type | tuple[type, ...]]

TEXT: Fields = {"id": str, "text": str}
NUMBER = (int, float)


def read_rows(path: Path, fields: Fields) -> list[Row]:
    """All rows of a JSON-lines file, each with exactly the given fields kept and their types checked."""
    if not path.is_file():
        raise UserError(f"{path} is missing: run the data preparation again (make data)")
    lines = numbered_lines(path)
    rows = [_row(line, fields, f"{path}:{number}") for number, line in lines if line.strip()]
    if not rows:
        raise UserError(f"{path} is empty: run the data preparation again (make data)")
    return rows


def read_texts(path: Path) -> dict[str, str]:
    """{id: text} of a corpus or query file; ids must be unique."""
    texts: dict[str, str] = {}
    for row in read_rows(path, TEXT):
        key = str(row["id"])
        if key in texts:
            raise UserError(f"{path}: id {key!r} occurs twice; ids must be unique")
        texts[key] = str(row["text"])
    return texts


def read_qrels(path: Path, queries: Collection[str], corpus: Collection[str]) -> dict[str, dict[str, int]]:
    """{query id: {corpus id: grade}}; every id must exist."""
    qrels: dict[str, dict[str, int]] = {}
    for row in read_rows(path, {"query_id": str, "corpus_id": str, "score": NUMBER}):
        query, document = str(row["query_id"]), str(row["corpus_id"])
        _known(query, queries, path, "queries.jsonl")
        _known(document, corpus, path, "corpus.jsonl")
        qrels.setdefault(query, {})[document] = _integer(row["score"], path)
    return qrels


def read_top_ranked(path: Path, queries: Collection[str], corpus: Collection[str]) -> dict[str, list[str]]:
    """{query id: candidate corpus ids}; every query has candidates and every id must exist."""
    ranked: dict[str, list[str]] = {}
    for row in read_rows(path, {"query_id": str, "corpus_ids": list}):
        query, candidates = str(row["query_id"]), row["corpus_ids"]
        assert isinstance(candidates, list)
        _known(query, queries, path, "queries.jsonl")
        for document in candidates:
            _known(document, corpus, path, "corpus.jsonl")
        ranked[query] = candidates
    if missing := sorted(set(queries) - ranked.keys()):
        raise UserError(f"{path}: query {missing[0]!r} has no candidates to rerank")
    return ranked


def folder_hash(folder: Path) -> str:
    """A short hash of every file's name and bytes: the revision of a local data set."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _row(line: bytes, fields: Fields, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 text; expected one JSON object per line") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg}); expected one object per line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with {', '.join(fields)}, found {type(row).__name__}")
    for name, kind in fields.items():
        if name not in row:
            raise UserError(f"{where}: field {name!r} is missing; expected {', '.join(fields)}")
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            raise UserError(f"{where}: field {name!r} is {row[name]!r}, expected {_names(kind)}")
    return {name: row[name] for name in fields}


def _names(kind: type | tuple[type, ...]) -> str:
    return " or ".join(part.__name__ for part in (kind if isinstance(kind, tuple) else (kind,)))


def _known(key: str, keys: Collection[str], path: Path, source: str) -> None:
    if key not in keys:
        raise UserError(f"{path}: id {key!r} is not in {source}")


def _integer(score: object, path: Path) -> int:
    # trec_eval grades are integers; 1.0 is accepted, 0.5 would silently become 0
    if not isinstance(score, NUMBER) or score != int(score):
        raise UserError(f"{path}: relevance {score!r} is not a whole number; nDCG grades are integers")
    return int(score)
