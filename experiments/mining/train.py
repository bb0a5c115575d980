"""Do mined negatives train a better retriever? `python -m experiments.mining.train`.

Every arm trains on the first half of builtin docs for 120 steps of 32 queries; only the negatives differ.
Runs go seed by seed, so that a stop leaves whole seeds; the README beside this file says what came out.

    python -m data_prep minilm
    python -m experiments.mining.planted
    python -m data_prep run experiments/mining/pipeline.yaml
    python -m experiments.mining.train
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.mining import compare
from experiments.steps import ROOT, Step, run_steps

SEEDS = (1, 2, 3)
RUNS = Path("multirun/mining")
TASK = "DocsRetrieval"
BASE = "siblings"  # the negatives that the data comes with
SHARED = ("experiment=laboratory", f"task.tasks=[{TASK}]", "task.split=dev")
MODELS: Mapping[str, Sequence[str]] = {
    "youtu_tiny": (),
    "minilm": (  # bf16: a third of the time on a CPU that has instructions for it
        "model=minilm",
        "model.path=data/minilm",
        "model.learning_rate=5e-5",
        "trainer.precision=bf16-mixed",
    ),
}
MINUTES = {"youtu_tiny": 1.5, "minilm": 5.0}
ARMS: Mapping[str, Sequence[str]] = {
    "none": ("data.files=[data/mining/siblings/export/docs_ir.jsonl]", "tasks.ir.num_negatives=0"),
    BASE: ("data.files=[data/mining/siblings/export/docs_ir.jsonl]",),
    "bm25": ("data.files=[data/mining/bm25/export/docs_ir.jsonl]",),
    "dense": ("data.files=[data/mining/dense/export/docs_ir.jsonl]",),
    "ranks": ("data.files=[data/mining/ranks/export/docs_ir.jsonl]",),
}


def steps(models: Sequence[str]) -> list[Step]:
    """The runs of these models, seed by seed."""
    return [_step(model, arm, seed) for model in models for seed in SEEDS for arm in ARMS]


def _step(model: str, arm: str, seed: int) -> Step:
    overrides = [*SHARED, *MODELS[model], *ARMS[arm], f"seed={seed}"]
    return Step(f"{model} {arm} {seed}", RUNS / model / arm / str(seed), overrides, MINUTES[model])


def table(model: str, root: Path = ROOT) -> str:
    """nDCG@10 in percent of every seed, and each arm less `siblings`, paired; the runs that have finished."""
    return compare.table(compare.finished(root / RUNS / model, list(ARMS), SEEDS, TASK), BASE, SEEDS, TASK)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what has not finished, and print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    models = parser.parse_args(arguments).models
    run_steps(steps(models))
    for model in models:
        sys.stdout.write(f"\n{model}, dev side, nDCG@10 x 100\n\n{table(model)}\n")


if __name__ == "__main__":
    main()
