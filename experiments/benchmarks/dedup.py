"""How many documents a CPU second does dedup compare, and does it find what brute force finds?

    pip install datasketch                                  # the peer; no dependency of this project
    python -m experiments.benchmarks.dedup                  # about 3 minutes on a quiet core
    python -m experiments.benchmarks.dedup --quick          # does it run at all?

Texts of 100 words by Zipf's law, a fifth of them copies of another with up to three words changed. Ours is
all that finds duplicates: shingles, signatures on disk, buckets, and each candidate compared by all its
shingles. The peer is datasketch's MinHashLSH of the same 5-word shingles with 14 bands of 8, and the same
comparison of what it returns. They take turns in one process of one thread. Writes dedup.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa

from codiemb.data import content_hash
from codiemb.tables import pipe_table
from data_prep.blocks import TableWriter
from data_prep.dedup.pool import Pool
from data_prep.dedup.repeats import find_repeats
from data_prep.dedup.signatures import Signed, sign_all
from data_prep.layout import CORPUS, QRELS, QUERIES, SCHEMAS, SOURCE
from experiments.benchmarks.machine import page

THRESHOLD, WORDS = 0.8, 100
Pair = tuple[int, int]


def planted(count: int, seed: int = 0) -> list[str]:
    """Texts, each fifth a copy of one before it with 0 to 3 other words."""
    rng = np.random.default_rng(seed)
    weight = 1 / (np.arange(60_000) + 3.0) ** 1.05
    drawn = rng.choice(len(weight), (count, WORDS), p=weight / weight.sum())
    for row in range(4, count, 5):
        drawn[row] = drawn[rng.integers(row)]
        places = rng.choice(WORDS, rng.integers(4), replace=False)
        drawn[row, places] = rng.integers(len(weight), size=len(places))
    return [" ".join(f"w{number}" for number in row) for row in drawn]


def write_source(folder: Path, texts: Sequence[str]) -> None:
    """A source of these documents, hashed as clean leaves them."""
    folder.mkdir(parents=True)
    (folder / SOURCE).write_text('{"name": "bench", "task": "ir"}', "utf-8")
    columns = {
        "id": [f"d{row:07d}" for row in range(len(texts))],
        "text": list(texts),
        "hash": [content_hash(text) for text in texts],
    }
    with TableWriter(folder / CORPUS, SCHEMAS[CORPUS]) as file:
        file.write(pa.table(columns))
    for name in (QUERIES, QRELS):
        with TableWriter(folder / name, SCHEMAS[name]):
            pass


def ours(source: Path, texts: Sequence[str]) -> set[Pair]:
    """Each dropped document with the one that it repeats."""
    with tempfile.TemporaryDirectory() as folder:

        def part(name: str, make: Callable[[Path], None]) -> Path:
            make(Path(folder) / name)
            return Path(folder) / name

        pool = Pool.of([source])
        signed = Signed(sign_all(part, pool, near=True))
        found = find_repeats(pool, signed, THRESHOLD, drop_near=True)
        rows = np.flatnonzero(found.why)
        return {(int(row), int(found.of[row])) for row in rows}


def peer(source: Path, texts: Sequence[str]) -> set[Pair]:
    """The same with datasketch: each document with the first similar one before it that was kept."""
    from datasketch import MinHash, MinHashLSH

    index, sets, found = MinHashLSH(num_perm=112, params=(14, 8)), dict[int, set[str]](), set[Pair]()
    for row, own in enumerate(map(grams, texts)):
        sketch = MinHash(num_perm=112)
        sketch.update_batch([gram.encode() for gram in own])
        near = (other for other in sorted(index.query(sketch)) if jaccard(own, sets[other]) >= THRESHOLD)
        first = next(near, None)
        if first is None:
            index.insert(row, sketch)
            sets[row] = own
        else:
            found.add((row, first))
    return found


def grams(text: str) -> set[str]:
    """5-word shingles."""
    words = text.split()
    return {" ".join(words[start : start + 5]) for start in range(len(words) - 4)}


def jaccard(first: set[str], second: set[str]) -> float:
    """Of two sets."""
    return len(first & second) / len(first | second)


def true_pairs(texts: Sequence[str]) -> set[Pair]:
    """All pairs at or above the threshold, by brute force over pairs with a shingle in common."""
    sets, holders, found = [grams(text) for text in texts], dict[str, list[int]](), set[Pair]()
    for row, own in enumerate(sets):
        others = {other for gram in own for other in holders.setdefault(gram, [])}
        found |= {(row, other) for other in others if jaccard(own, sets[other]) >= THRESHOLD}
        for gram in own:
            holders[gram].append(row)
    return found


def quality(found: set[Pair], true: set[Pair]) -> tuple[float, float]:
    """Precision of what is dropped for what, and the share of documents with a true twin that is settled.

    A document is settled if it is dropped, or if all its twins are.
    """
    both = true | {(b, a) for a, b in true}
    dropped = {row for row, _ in found}
    settled = sum(a in dropped or b in dropped for a, b in true)
    return sum(pair in both for pair in found) / max(len(found), 1), settled / max(len(true), 1)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.documents, args.rounds = 300, 1
    sides = {"codiemb": ours} | ({"datasketch MinHashLSH": peer} if find_spec("datasketch") else {})
    texts = planted(args.documents)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, set[Pair]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_source(source, texts)
        ours(source, texts)  # warm-up: the table of characters, imports
        for _ in range(args.rounds):
            for name, side in sides.items():
                started = time.process_time()
                results[name] = side(source, texts)
                seconds[name].append(time.process_time() - started)
                print(f"{name}: {args.documents / seconds[name][-1]:,.0f} documents a CPU second", flush=True)
    true = true_pairs(texts)
    rows = [_row(name, args.documents, seconds, results[name], true) for name in sides]
    header = (
        "",
        "documents a CPU second",
        "slowest",
        "fastest",
        "its CPU time, codiemb = 1",
        "precision",
        "pairs settled",
    )
    about = f"""{args.documents:,} texts of {WORDS} words, a fifth of them copies with 0 to 3 other words:
        {len(true):,} pairs with a Jaccard similarity of at least {THRESHOLD}, by brute force. Medians of
        {args.rounds} rounds in turns, one process, one thread. Ours reads Parquet, writes signatures to disk,
        and compares candidates by all their shingles; content hashes are there, as clean leaves them.
        Precision: of documents dropped for another, how many are truly at the threshold. Settled: of two that
        are, one is dropped."""
    packages = ["rensa", "pyarrow", "numpy", *(["datasketch"] if "datasketch MinHashLSH" in sides else [])]
    args.out.write_text(page("Deduplication", [about, pipe_table([header, *rows])], packages), "utf-8")


def _row(
    name: str, documents: int, seconds: dict[str, list[float]], found: set[Pair], true: set[Pair]
) -> tuple[str, ...]:
    median = statistics.median(seconds[name])
    precision, settled = quality(found, true)
    return (
        name,
        f"{documents / median:,.0f}",
        f"{documents / max(seconds[name]):,.0f}",
        f"{documents / min(seconds[name]):,.0f}",
        f"{median / statistics.median(seconds['codiemb']):.1f}",
        f"{precision:.1%}",
        f"{settled:.1%}",
    )


if __name__ == "__main__":
    main()
