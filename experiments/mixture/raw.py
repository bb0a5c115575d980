"""The raw file of the mixture: builtin docs with some right answers hidden, and where those are."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text
from data_prep.fetch.rows import document_of, query_of
from data_prep.records import write_jsonl

DOCS = Path("data/builtin/train/docs_ir.jsonl")
FOLDER = Path("data/mixture/raw")
RAW, HIDDEN = FOLDER / "docs_ir.jsonl", FOLDER / "hidden.tsv"
NUM_RECORDS = 2_000


def read_records() -> list[dict[str, Any]]:
    """The first records of builtin docs."""
    with DOCS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, NUM_RECORDS)]


def write_raw(records: list[dict[str, Any]]) -> int:
    """Take the second positive out of every record that has one, and give it to the next as a wrong answer.

    So a miner may find it, and takes a right answer for a negative. Lines have the numbers that they have in
    builtin docs.

    Returns:
        how many are hidden; HIDDEN lists them as a BEIR table.
    """
    rows, before = ["query-id\tcorpus-id\tscore\n"], list[Any]()
    for record in records:
        hidden, record["positives"] = record["positives"][1:], record["positives"][:1]
        query = query_of(record["query"][2], record["query"][0])
        rows += [f"{query.id}\t{document_of(text).id}\t1\n" for _, _, text in hidden]
        record["negatives"] += before
        record["negative_scores"] = [0.0] * len(record["negatives"])
        record["positive_scores"] = [1.0]
        before = hidden
    write_jsonl(RAW, records)
    write_text(HIDDEN, "".join(rows))
    return len(rows) - 1
