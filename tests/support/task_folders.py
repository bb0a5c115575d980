"""Files of tasks of one's own, as small as they can be."""

import json
from collections.abc import Mapping
from pathlib import Path

TEXTS = '{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}\n'
JUDGED = '{"query-id": "a", "corpus-id": "b", "score": 1}\n'
TWO = {"corpus.jsonl": TEXTS, "queries.jsonl": TEXTS}
IR = {**TWO, "qrels.jsonl": JUDGED}
PAIRS = "sentence1\tsentence2\t{}\na\tb\t{}\nc\td\t{}\n"
STS = PAIRS.format("score", 1, 2)
LABELLED = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
ONE_RECORD = json.dumps({"task_type": "ir", "query": "a", "positives": ["b"]}) + "\n"
RAW = '{"task_type": "lm", "text": "a"}\n'


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
