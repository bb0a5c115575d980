"""Do negatives that are mined anew while training pay? `python -m experiments.mining.refresh`.

Every arm trains all-MiniLM-L6-v2 on 320 records of builtin docs for 40 steps of 16 queries, first with the
negatives that it mined itself before training (below 0.95 of the positive). They stay, or are replaced every
10 steps by those of the weights of that step, or by Conan's rule. It is judged on the 80 queries of
NanoDocsRetrieval, dev side. Runs go seed by seed, so that a stop leaves whole seeds.

    python -m data_prep minilm
    python -m experiments.mining.planted
    python -m data_prep run experiments/mining/pipeline.yaml
    python -m experiments.mining.refresh
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

from codiemb.atomic import write_text
from codiemb.config.result import RESULT_FILE
from experiments.mining.compare import finished, table
from experiments.mining.train import MODELS, SEEDS
from experiments.steps import ROOT, Step, run_steps

MINED = Path("data/mining/dense/export/docs_ir.jsonl")  # of pipeline.yaml
RECORDS = Path("data/mining/refresh/docs_ir.jsonl")
TASK = "NanoDocsRetrieval"
SHARED = (
    "experiment=laboratory",
    "task=nano",
    f"task.tasks=[{TASK}]",
    "task.split=dev",
    f"data.files=[{RECORDS}]",
    "max_steps=40",
    "tasks.ir.global_batch_size=16",
    *MODELS["minilm"],
)
RUNS = Path("multirun/refresh")
NUM_RECORDS = 320
BASE = "static"
MINUTES = 3.5
ARMS: Mapping[str, Sequence[str]] = {
    BASE: (),
    "replace": ("refresh.every_n_steps=10",),
    "conan": ("refresh.every_n_steps=10", "refresh.rule=conan"),
}


def steps() -> list[Step]:
    """All runs, seed by seed."""
    return [
        Step(f"{arm} {seed}", RUNS / arm / str(seed), [*SHARED, *overrides, f"seed={seed}"], MINUTES)
        for seed in SEEDS
        for arm, overrides in ARMS.items()
    ]


def write_records(root: Path = ROOT) -> None:
    """The first records of what the pipeline has mined."""
    with (root / MINED).open(encoding="utf-8") as lines:
        write_text(root / RECORDS, "".join(islice(lines, NUM_RECORDS)))


def costs(root: Path = ROOT) -> str:
    """Of each arm that mines: searches of a run, and the share of training time that they took."""
    said = []
    for arm in ARMS:
        files = sorted((root / RUNS / arm).glob(f"*/{RESULT_FILE}"))
        spent = [json.loads(file.read_text("utf-8")).get("refresh") for file in files]
        if found := [each for each in spent if each is not None]:
            seconds, share = (fmean(each[key] for each in found) for key in ("seconds", "share"))
            searches = found[0]["searches"]
            said.append(f"{arm}: {searches} searches a run, {seconds:.0f} s, {100 * share:.0f} % of training")
    return "\n".join(said)


def main() -> None:
    """Run what has not finished, and print the table."""
    write_records()
    run_steps(steps())
    runs = finished(ROOT / RUNS, list(ARMS), SEEDS, TASK)
    sys.stdout.write(f"\n{table(runs, BASE, SEEDS, TASK, smallest=True)}\n\n{costs()}\n")


if __name__ == "__main__":
    main()
