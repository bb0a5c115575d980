"""The page on the mixture: what came of each step, from the manifests and results that are there."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from codiemb.config.result import read_scores
from codiemb.tables import pipe_table
from data_prep.layout import QRELS
from data_prep.lineage.way import print_lineage
from data_prep.pipeline import plan
from data_prep.relabelling.agreement import as_text
from data_prep.relabelling.pairs import RELABELLED


def road(pipeline: Path) -> str:
    """Of each step the rows that are kept behind it, and what it dropped."""
    rows = []
    for step in plan(pipeline):
        manifest = _read(step.out / "manifest.json")
        tables = manifest["rows"]
        kept = [f"{tables[name]['kept']:,}" if name in tables else "" for name in _TABLES]
        before = [_read(source / "manifest.json")["files"] for source in step.sources]
        dropped = [
            f"{Path(name).stem}: {reason} {n:,}"
            for name, each in tables.items()
            if not any(files.get(name) == manifest["files"][name] for files in before)
            for reason, n in each["dropped"].items()
        ]
        rows.append([step.name, *kept, ", ".join(dropped) or ""])
    header = ["step", "queries", "documents", "judgements", "candidates", "dropped"]
    return pipe_table([header, *([row[0], *row[1:5], row[5]] for row in rows)])


_TABLES = ("queries.parquet", "corpus.parquet", QRELS, "candidates/bm25.parquet")


def false_negatives(before: Path, after: Path, hidden: int) -> str:
    """How many hidden right answers are among the negatives, before and after these were judged again."""
    rows = []
    for name, folder in (("as mined", before), ("judged again", after)):
        about = _read(folder / "audit.json")
        found = about["false_negatives"]["grades"]["right"]
        rows.append(
            [
                name,
                f"{about['chosen']:,}",
                f"{found:,}",
                f"{100 * found / about['chosen']:.1f} %",
                f"{hidden:,}",
            ]
        )
    return pipe_table(
        [["negatives", "chosen", "hidden right answers among them", "share", "hidden in all"], *rows]
    )


def found_right(relabelled: Path, hidden: Path) -> tuple[int, int]:
    """Candidates that the judges find right, and how many of these were hidden."""
    qrels = pq.read_table(relabelled / QRELS)
    new = qrels.filter(pc.starts_with(qrels["origin"], RELABELLED))
    pairs = set(zip(new["query"].to_pylist(), new["document"].to_pylist(), strict=True))
    known = {tuple(line.split("\t")[:2]) for line in hidden.read_text("utf-8").split("\n")[1:] if line}
    return len(pairs), len(pairs & known)


def written_and_kept(filtered: Path) -> tuple[int, int]:
    """Judgements of queries that a model wrote, and how many of them are trained on."""
    qrels = pq.read_table(filtered / QRELS)
    written = qrels.filter(pc.starts_with(qrels["origin"], "synthesise"))
    return len(written), written["dropped_by"].null_count


def agreement(relabelled: Path) -> str:
    """The tables of `relabel`."""
    return as_text(_read(relabelled / "manifest.json")["agreement"])


def missed(relabelled: Path) -> str:
    """What the judges say of pairs that are right, in a sentence."""
    right = _read(relabelled / "manifest.json")["agreement"]["people"]["right"]["verdict"]
    found, negative = right.get("positive", 0), right.get("negative", 0)
    return (
        f"Of {sum(right.values()):,} pairs that are right the judges find {found:,} and call {negative:,} "
        "negative: right answers are left among the negatives, more than the audit can count.\n"
    )


def lineage_of_a_new_positive(export: Path, relabelled: Path) -> str:
    """The way of the first record with a positive that a judge has found, as `lineage` prints it."""
    qrels = pq.read_table(relabelled / QRELS)
    new = qrels.filter(pc.starts_with(qrels["origin"], RELABELLED))
    pairs = set(zip(new["query"].to_pylist(), new["document"].to_pylist(), strict=True))
    with export.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            if any((record["id"], document) in pairs for document in record["positive_ids"]):
                out = io.StringIO()
                with redirect_stdout(out):
                    print_lineage(export, number)
                return f"    python -m data_prep lineage {export} {number}\n\n" + "".join(
                    f"    {each}\n" if each else "\n" for each in out.getvalue().rstrip().split("\n")
                )
    return "No record has one.\n"


def scores(run: Path) -> str:
    """Of each task that was evaluated."""
    return pipe_table(
        [["task", "score x 100"], *([task, f"{100 * s:.2f}"] for task, s in read_scores(run).items())]
    )


def _read(path: Path) -> Any:  # noqa: ANN401  JSON
    return json.loads(path.read_text("utf-8"))
