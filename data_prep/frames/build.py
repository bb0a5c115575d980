"""Build the corpus: draw every file from seeded samplers, prove the splits disjoint, then write."""

from functools import partial
from pathlib import Path
from typing import Any

from data_prep.frames.eval_sets import build_eval
from data_prep.frames.grammar import load_grammar
from data_prep.frames.sampler import Sampler, check_disjoint
from data_prep.frames.sizes import Sizes
from data_prep.frames.train_sets import ir_records, sts_records
from data_prep.records import write_jsonl


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
