"""The working layout of a source: a folder of tables in Parquet, whose rows are marked and never deleted."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from codiemb.errors import UserError
from codiemb.json_files import TEXT, read_json, take

SOURCE = "source.json"
QUERIES, CORPUS, QRELS = "queries.parquet", "corpus.parquet", "qrels.parquet"
CANDIDATES = "candidates"  # a folder: one file for each scorer

# Every row of every table: the step that dropped it and why; null while it is kept.
_VERDICT = [("dropped_by", pa.string()), ("reason", pa.string())]

SCHEMAS = {
    QUERIES: pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("instruction", pa.string()),
            ("lang", pa.string()),
            ("flags", pa.list_(pa.string())),
            *_VERDICT,
        ]
    ),
    CORPUS: pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("text", pa.string()),
            ("lang", pa.string()),
            ("hash", pa.int64()),  # codiemb.data.collator.content_hash of title and text joined
            ("cluster", pa.string()),  # of near duplicates; null before there is one
            ("flags", pa.list_(pa.string())),
            *_VERDICT,
        ]
    ),
    # grade: above 0 a positive, 0 judged and wrong; of graded pairs (sts) the score in [0, 1]
    QRELS: pa.schema(
        [
            ("query", pa.string()),
            ("document", pa.string()),
            ("grade", pa.float64()),
            ("origin", pa.string()),
            *_VERDICT,
        ]
    ),
    # rank: raw, from 1, before anything is left out; null where a pair was scored and not searched for
    CANDIDATES: pa.schema(
        [
            ("query", pa.string()),
            ("document", pa.string()),
            ("rank", pa.int32()),
            ("score", pa.float64()),
            ("scorer", pa.string()),
            *_VERDICT,
        ]
    ),
}


def schema_of(name: str) -> pa.Schema:
    """The columns of a table by its name in a source: `corpus.parquet`, `candidates/bm25.parquet`."""
    return SCHEMAS[CANDIDATES if name.startswith(f"{CANDIDATES}/") else name]


def tables_of(folder: Path) -> list[str]:
    """The names of a source's tables, in one order."""
    single = [name for name in (QUERIES, CORPUS, QRELS) if (folder / name).is_file()]
    return single + sorted(f"{CANDIDATES}/{path.name}" for path in (folder / CANDIDATES).glob("*.parquet"))


def read_source(folder: Path) -> dict[str, Any]:
    """What is said of a source as a whole: its `name`, its `task`, and where it is from.

    Raises:
        UserError: the folder is no source.
    """
    about = read_json(folder / SOURCE, {}, "write it with: python -m data_prep fetch")
    for key in ("name", "task"):
        if take(about, key, TEXT, folder / SOURCE) is None:
            raise UserError(
                f"{folder}: no source ({SOURCE} with name and task is missing); make one with: "
                "python -m data_prep fetch --recipe NAME --out DIR"
            )
    return about


def document_text(title: str | None, text: str) -> str:
    """A document as it is encoded and exported: title and text with a space between, as mteb joins them."""
    return f"{title} {text}".strip() if title else text
