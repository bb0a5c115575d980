"""Build the corpus: draw every file from seeded samplers, prove the splits disjoint, then write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.frames.eval_sets import build_eval
from data_prep.frames.grammar import load_grammar
from data_prep.frames.sampler import Sampler, check_disjoint
from data_prep.frames.sizes import Sizes
from data_prep.frames.train_sets import ir_records, sts_records


def build_frames(out: Path, seed: int = 0, size: Sizes | None = None) -> dict[str, int]:
    """Write the corpus under `out`; return the number of records of each file, by its path in `out`.

    The bytes depend on the grammar, the seed and the sizes only. Nothing is written if the splits overlap.
    """
    size = size or Sizes()
    frames = load_grammar()
    samplers: list[Sampler] = []

    def sampler(split: str, name: str, half: int | None = None) -> Sampler:
        samplers.append(Sampler(frames, split, f"{seed}/{split}/{name}", half))
        return samplers[-1]

    files: dict[str, list[dict[str, Any]]] = {
        "train/frames_ir.jsonl": list(ir_records(sampler("train", "ir"), size.ir)),
        "train/frames_sts.jsonl": list(sts_records(sampler("train", "sts"), size.sts)),
    }
    for split, sizes in (("dev", size.dev), ("test", size.test)):
        tasks = build_eval(partial(sampler, split), sizes)
        for task, parts in tasks.items():
            files |= {f"eval/{split}/{task}/{part}.jsonl": rows for part, rows in parts.items()}
    check_disjoint(samplers)
    for name, rows in files.items():
        write_jsonl(out / name, rows)
    return {name: len(rows) for name, rows in files.items()}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line under a temporary name, then rename, so no file is ever half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(partial, path)
