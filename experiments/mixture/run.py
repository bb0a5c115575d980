"""Builtin docs from the raw file to an evaluated model, and the page on what came of it.

    python -m data_prep minilm
    python -m experiments.mixture.run

Right answers are hidden first (raw.py), so that it can be counted how many of them mining takes for
negatives, and how many of those the judges find. What is there already is not done again; --page only writes
the page.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from codiemb.atomic import write_text
from codiemb.config.result import RESULT_FILE
from codiemb.tables import pipe_table
from experiments.mixture import page
from experiments.mixture.raw import HIDDEN, read_records, write_raw
from experiments.synthesise.writer import served

ROOT = Path(__file__).parents[2]
PIPELINE = Path("experiments/mixture/pipeline.yaml")
OUT = Path("data/mixture")
DOCS = OUT / "docs"
EXPORT = DOCS / "export/docs_ir.jsonl"
RUN, EVALUATED, TABLE = Path("outputs/mixture"), Path("outputs/mixture_eval"), Path("outputs/mixture_table")
WRITER, PORT = Path("data/tiny_writer"), 8140
TIMES = OUT / "seconds.json"
PAGE = Path("experiments/mixture/README.md")
LEFT = {"train": RUN, "evaluate": EVALUATED, "table": TABLE}
COMMANDS = {
    "train": f"run_train.py data=files data.files=[{EXPORT}] data.num_workers=0 trainer.accelerator=cpu "
    "max_steps=40 tasks.ir.global_batch_size=32 tasks.ir.num_negatives=1 tasks.ir.max_document_tokens=128 "
    "evaluate.before=false evaluate.after=false logger=local callbacks.probe=null "
    f"hydra.run.dir={RUN}",
    "evaluate": "run_eval.py task=builtin task.tasks=[DocsRetrieval] task.split=dev "
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
    write_text(ROOT / PAGE, _page())
    print(f"written: {PAGE}")


def _run() -> None:
    if not (ROOT / "data/minilm").is_dir():
        sys.exit("run first: make data; python -m data_prep minilm")
    if not HIDDEN.is_file():
        write_raw(read_records())
    if not (WRITER / "config.json").is_file():
        _timed("writer", lambda: _python(f"-m experiments.synthesise.writer train --out {WRITER}"))
    if not EXPORT.is_file():
        with served(WRITER, PORT, OUT / "serve.log"):
            _timed("prepare", lambda: _python(f"-m data_prep run {PIPELINE}"))
    for name, command in COMMANDS.items():
        if not any((LEFT[name] / each).is_file() for each in (RESULT_FILE, "table.md")):
            _timed(name, partial(_python, command))


def _python(command: str) -> None:
    print(f"python {command}", flush=True)
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"failed: python {command}")


def _timed(name: str, work: Callable[[], None]) -> None:
    started = time.monotonic()
    work()
    seconds = _read(TIMES) if TIMES.is_file() else {}
    write_text(TIMES, json.dumps({**seconds, name: round(time.monotonic() - started)}) + "\n")


def _read(path: Path) -> Any:  # noqa: ANN401  JSON
    return json.loads((ROOT / path).read_text("utf-8"))


_HEAD = """\
# A mixture from end to end

The first 2,000 records of builtin docs, from the raw file to an evaluated model: fetch, clean, dedup,
decontaminate, synthesise, mine, relabel, filter, export, train, evaluate. It is small, has one seed and
40 steps: it shows that the road holds from one end to the other and what its steps do, and says nothing
of which data trains the better model. This page is written by `experiments/mixture/run.py`.
"""
_WRITTEN = """\
The queries of `synthesise` are written by a model of a million parameters that was trained on this
machine and served by `transformers serve` (`experiments/synthesise`). They have the form of a
docstring and next to nothing of their passage. So nothing is to be gained here: it stands where a real
model would.
"""
_HIDDEN = """\
Before all this every second positive of a record was hidden (raw.py): such a document is right, and the
judgements do not know it. `audit` counts how many of them are among the negatives.
"""
_AGREEMENT = """\
The cheap judge is BM25's score and can only say that there are too few words in common; the strong one
is the cosine of all-MiniLM-L6-v2. A cross-encoder as the strong judge was tried first: MiniLM's weights
with a new head, one pass over 1,199 pairs of other records. It learned nothing (every score between 0.31
and 0.38, right and wrong alike), and called every pair unsure. What qrels call wrong here are documents
of the same module, taken by BM25: some of them are right, so the share of `wrong` that is found positive
is no error rate.
"""
_TRAINED = """\
`youtu_tiny` from random weights, 40 steps of 32 queries, on the dev side; and whether the training texts
were searched for those of the task:
"""


def _page() -> str:
    """README.md beside this file."""
    hidden = len(HIDDEN.read_text("utf-8").split("\n")) - 2
    found, right = page.found_right(DOCS / "relabel", HIDDEN)
    commands = "".join(f"    python {command}\n" for command in COMMANDS.values())
    seconds = pipe_table([["", "seconds"], *([name, f"{each:,}"] for name, each in _read(TIMES).items())])
    parts = [
        _HEAD,
        "## The road\n",
        f"[pipeline.yaml](pipeline.yaml): rows that are kept behind each step.\n\n{page.road(PIPELINE)}",
        _WRITTEN,
        "Of {:,} such queries `filter` keeps {:,}: BM25 does not find the passage of the others among the "
        "first 30.\n".format(*page.written_and_kept(DOCS / "filter")),
        "## Right answers among the negatives\n",
        _HIDDEN,
        page.false_negatives(DOCS / "audit", DOCS / "audit-2", hidden),
        f"The judges find {found:,} candidates right. {right:,} of them were hidden; of the others nobody "
        "has said whether they are.\n",
        "## How far the judges agree\n",
        page.agreement(DOCS / "relabel"),
        _AGREEMENT,
        page.missed(DOCS / "relabel"),
        "## Trained and evaluated\n",
        page.scores(EVALUATED),
        _TRAINED,
        (TABLE / "checked.md").read_text("utf-8"),
        "## The way of a record\n",
        "The first with a positive that a judge has found:\n",
        page.lineage_of_a_new_positive(EXPORT, DOCS / "relabel"),
        "## Again\n",
        f"    python -m data_prep minilm\n    python -m experiments.mixture.run\n\nwhich runs\n\n{commands}",
        "On two cores that others used, too, the writer trained before (188 CPU s):\n",
        seconds,
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
