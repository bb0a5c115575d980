"""Builds the docs corpus: training records and a dev and a test retrieval set, split by module."""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import packages_distributions, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from data_prep.docs.negatives import Siblings
from data_prep.docs.parse import Entry, parse_file, source_files, stable_hash
from data_prep.docs.select import Split, balanced, split_of, unique_entries
from data_prep.held_out import HeldOut
from data_prep.records import retrieval, write_jsonl

TASK_INSTRUCTION = "Given the summary of a function or class, retrieve its documentation"
# Installed with this project, then parts of the standard library; one that is missing is left out.
# fmt: off
PACKAGES = (
    "torch", "transformers", "scipy", "numpy", "sklearn", "pandas", "datasets", "mteb",
    "sentence_transformers", "pytorch_lightning", "deepspeed", "peft", "wandb", "hydra", "omegaconf",
    "sympy", "networkx", "torchmetrics", "huggingface_hub", "joblib", "fsspec", "pydantic", "polars",
    "accelerate", "aiohttp", "rich", "pyarrow", "asyncio", "concurrent", "email", "http", "importlib",
    "logging", "multiprocessing", "unittest", "urllib",
)
# fmt: on
MAX_FILES = 1200  # per package
# `make train` encodes the test side three times, in 24 s each on two slow cores
NUM_ENTRIES: dict[Split, int] = {"train": 9000, "dev": 700, "test": 800}
NUM_QUERIES: dict[Split, int] = {"dev": 600, "test": 500}
NUM_HARD_NEGATIVES = 8
MIN_FILES_FOR_WORKERS = 500  # below it, starting processes costs more than parsing

Item = tuple[str, str, str]  # package, module, path
Parsed = TypeVar("Parsed")


def parse_all(parse: Callable[[Item], Parsed], items: Sequence[Item], workers: int) -> list[Parsed]:
    """Parse all files in order, in processes if they are many."""
    if workers < 2 or len(items) < MIN_FILES_FOR_WORKERS:
        return [parse(item) for item in items]
    # syntax trees hold no cycles: without the collector parsing takes a third less time
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=gc.disable) as pool:
        return list(pool.map(parse, items, chunksize=64))


def _retrieval(entries: Sequence[Entry], num_queries: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """corpus, queries and qrels; ids differ between a query and its documents: some tools drop equal ids."""
    asked = sorted(entries, key=lambda e: stable_hash("query", seed, e.module, e.name))[:num_queries]
    asked.sort(key=lambda e: (e.module, e.name))

    def documents(entry: Entry) -> list[tuple[str, str]]:
        ids = (f"{entry.module}.{entry.name}#body", f"{entry.module}.{entry.name}#code")
        return list(zip(ids, entry.documents, strict=False))

    return {
        "corpus": [{"id": i, "text": text} for entry in entries for i, text in documents(entry)],
        "queries": [{"id": f"{e.module}.{e.name}#summary", "text": e.query} for e in asked],
        "qrels": [
            {"query_id": f"{e.module}.{e.name}#summary", "corpus_id": i, "score": 1}
            for e in asked
            for i, _ in documents(e)
        ],
    }


def _versions(packages: Iterable[str]) -> dict[str, str]:
    distributions = packages_distributions()
    return {p: version(distributions[p][0]) for p in packages if p in distributions}


def build_docs(
    out: Path, seed: int, packages: Sequence[str] = PACKAGES, max_files: int = MAX_FILES, workers: int = 2
) -> dict[str, Any]:
    """Writes train/docs_ir.jsonl and eval/{dev,test}/DocsRetrieval under out; returns counts for a manifest.

    The same seed and the same package versions give the same bytes. A missing package is left out.
    """
    items = [item for package in packages for item in source_files(package, max_files)]
    parsed = [entry for entries in parse_all(parse_file, items, workers) for entry in entries]
    entries = unique_entries(parsed)
    print(f"docs: {len(items)} files, {len(parsed)} docstrings, {len(entries)} without copies")
    sides: dict[Split, list[Entry]] = {"train": [], "dev": [], "test": []}
    for entry in entries:
        sides[split_of(entry.module)].append(entry)
    chosen = {split: balanced(side, NUM_ENTRIES[split], seed) for split, side in sides.items()}

    siblings = Siblings(sides["train"])
    records = [
        retrieval(TASK_INSTRUCTION, e.query, e.documents, hard_negatives, scored=True)
        for e in chosen["train"]
        for hard_negatives in [siblings.hard_negatives(e, NUM_HARD_NEGATIVES)]
    ]
    held_out = HeldOut(text for e in chosen["dev"] + chosen["test"] for text in (e.query, *e.documents))
    held_out.check("train/docs_ir.jsonl", records)
    write_jsonl(out / "train" / "docs_ir.jsonl", records)
    counts: dict[str, Any] = {"train": {"records": len(records), "files": ["train/docs_ir.jsonl"]}}
    for split, num_queries in NUM_QUERIES.items():
        tables = _retrieval(chosen[split], num_queries, seed)
        for name, rows in tables.items():
            write_jsonl(out / "eval" / split / "DocsRetrieval" / f"{name}.jsonl", rows)
        counts[split] = {name: len(rows) for name, rows in tables.items()}
    counts["entries_per_package"] = dict(
        Counter(e.package for side in chosen.values() for e in side).most_common()
    )
    counts["versions"] = _versions(counts["entries_per_package"])
    print(f"docs: {len(records)} train records, dev {counts['dev']}, test {counts['test']}")
    return counts
