"""Builtin docs from the raw file to an evaluated model, and the page on what came of it.

    python -m data_prep minilm
    python -m experiments.mixture.run

Right answers are hidden first (raw.py), so that it can be counted how many of them mining takes for negatives, and how
many of those the judges find. What is there already is not done again; --page only writes the page.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from codiemb.atomic import write_text
from codiemb.tables import pipe_table
from experiments.mixture.judge import pairs_of, train_judge
from experiments.mixture.raw import HIDDEN, RAW, read_records, write_raw

ROOT = Path(__file__).parents[2]
PIPELINE = Path("experiments/mixture/pipeline.yaml")
OUT = Path("data/mixture")
DOCS, JUDGE = OUT / "docs", OUT / "judge"
EXPORT = DOCS / "export/docs_ir.jsonl"
RUN, EVALUATED, TABLE = Path("outputs/mixture"), Path("outputs/mixture_eval"), Path("outputs/mixture_table")
TIMES = OUT / "seconds.json"
PAGE = Path("experiments/mixture/README.md")
COMMANDS = {
    "prepare": f"-m data_prep run {PIPELINE}",
    "train": f"run_train.py data=files data.files=[{EXPORT}] data.num_workers=0 trainer.accelerator=cpu max_steps=60 "
    "tasks.ir.global_batch_size=32 tasks.ir.num_negatives=1 tasks.ir.max_document_tokens=128 evaluate.before=false "
    f"evaluate.after=false logger=local callbacks.probe=null hydra.run.dir={RUN}",
    "evaluate": "run_eval.py task=builtin task.tasks=[DocsRetrieval] task.split=dev trainer.accelerator=cpu "
    f"model.path={RUN}/export hydra.run.dir={EVALUATED}",
    "table": f"run_eval.py table=[{EVALUATED}] manifest={EXPORT.parent} hydra.run.dir={TABLE}",
}


def main(arguments: list[str]) -> None:
    """Do what is not done, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    if not parser.parse_args(arguments).page:
        _run()
    write_text(ROOT / PAGE, page())
    print(f"written: {PAGE}")


def _run() -> None:
    if not (ROOT / "data/minilm").is_dir():
        sys.exit("run first: make data; python -m data_prep minilm")
    records, for_judge = read_records()
    if not HIDDEN.is_file():
        write_raw(records)
    if not (JUDGE / "config.json").is_file():
        torch.set_num_threads(2)
        _timed("judge", lambda: train_judge(Path("data/minilm"), pairs_of(for_judge), JUDGE))
    for name, command in COMMANDS.items():
        _timed(name, lambda command=command: _python(command))


def _python(command: str) -> str:
    print(f"python {command}", flush=True)
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"failed: python {command}")


def _timed(name: str, work: Any) -> None:  # noqa: ANN401
    started = time.monotonic()
    work()
    seconds = _read(TIMES) if TIMES.is_file() else {}
    write_text(TIMES, json.dumps({**seconds, name: round(time.monotonic() - started)}) + "\n")


def _read(path: Path) -> Any:  # noqa: ANN401  JSON
    return json.loads((ROOT / path).read_text("utf-8"))
