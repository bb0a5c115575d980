"""The laboratory's training files: those of a material, converted between tasks, and one with duplicates."""

import json
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from codiemb.atomic import sync
from codiemb.json_files import read_jsonl
from experiments.laboratory.material import FRAMES, Material

Rows = list[dict[str, Any]]

MIN_POSITIVE = 0.8  # score from which an STS pair counts as a positive pair where the loss is InfoNCE
POOL = 10_000  # records of a kind
NUM_SHARED = 320  # positives that several queries share, in duplicates.jsonl
QUERIES_PER_SHARED = 4
_UNSCORED = {"positive_scores": [], "negative_scores": []}  # the builtin IR records say 1 and 0


def prepare(material: Material = FRAMES) -> None:
    """Write the files unless they are there; whole or not at all, so that two terminals may both do it.

    | file | task | holds |
    |---|---|---|
    | ir | ir | the IR records |
    | sts | sts | the STS records |
    | sts_positives | sts | the STS pairs of score 0.8 or more, which InfoNCE can take for positive pairs |
    | ir_graded | sts | the IR records as graded pairs: positives 1, hard negatives 0 |
    | mixed | mixed | `ir` and `sts` in one file, half and half |
    | mixed_positives | mixed | `sts_positives` and as many IR records, half and half |
    | mixed_graded | sts | `ir_graded` and `sts`, half and half |
    | duplicates | ir | 320 positives, each under four queries |
    """
    folder = material.folder
    if folder.is_dir():
        return
    missing = [path for path in (*material.ir, *material.sts) if not path.is_file()]
    if missing:
        sys.exit(f"no {missing[0]} yet: run `{material.make}` first")
    written = files(_together(material.ir), _together(material.sts))
    partial = folder.with_name(f"{folder.name}.partial-{random.SystemRandom().getrandbits(32):x}")
    partial.mkdir(parents=True)
    for name, rows in written.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (partial / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    for path in [*partial.iterdir(), partial]:
        sync(path)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)


def files(ir: Rows, sts: Rows) -> dict[str, Rows]:
    """All training files by name."""
    ir, sts = [row | _UNSCORED for row in ir[:POOL]], sts[:POOL]
    positives = [row for row in sts if row["positive_scores"][0] >= MIN_POSITIVE]
    graded = [_graded(row) for row in ir]
    return {
        "ir": ir,
        "sts": sts,
        "sts_positives": positives,
        "ir_graded": graded,
        "mixed": _as_mixed(_in_halves(ir, sts)),
        "mixed_positives": _as_mixed(_in_halves(ir, positives)),
        "mixed_graded": _in_halves(graded, sts),
        "duplicates": duplicates(ir),
    }


def duplicates(ir: Rows) -> Rows:
    """Records whose texts all say the same, turned round: one is the positive, the others are queries."""
    rich = [row for row in ir if len(row["positives"]) >= QUERIES_PER_SHARED][:NUM_SHARED]
    rows = []
    for row in rich:
        task_instruction, *_ = row["query"]
        shared, *others = row["positives"]
        texts = [row["query"][2], *(text for _, _, text in others)][:QUERIES_PER_SHARED]
        for text in texts:
            rows.append(row | {"query": [task_instruction, "", text], "positives": [shared]})
    return rows


def _graded(row: dict[str, Any]) -> dict[str, Any]:
    scores = {"positive_scores": [1.0] * len(row["positives"])}
    return row | scores | {"task_type": "sts", "negative_scores": [0.0] * len(row["negatives"])}


def _in_halves(ir: Rows, sts: Rows) -> Rows:
    """As many of each, so that a batch has about half of each."""
    num = min(len(ir), len(sts))
    return [*ir[:num], *sts[:num]]


def _as_mixed(rows: Iterable[dict[str, Any]]) -> Rows:
    return [row | {"task_type": "mixed"} for row in rows]


def _together(paths: Sequence[Path]) -> Rows:
    """The rows of several files in turns, as many of each as the smallest has."""
    return [row for rows in zip(*map(read_jsonl, paths), strict=False) for row in rows]


if __name__ == "__main__":
    prepare()
