"""What does it cost to find the candidates of all queries, against the libraries that people mine with?

    pip install faiss-cpu                                   # the peer; no dependency of this project
    python -m experiments.benchmarks.mine                   # about 5 minutes on a quiet core
    python -m experiments.benchmarks.mine --large           # also 100,000 x 100,000, ours alone
    python -m experiments.benchmarks.mine --quick           # does it run at all?

20,000 queries x 50,000 documents, D = 384, the best 61 (60 negatives and the positive), unit vectors in
.npy files; and BM25 of 50,000 documents. Every measurement is a process of its own with one thread, so that
CPU seconds mean something on a machine with other work. Without faiss its lines are left out. Writes mine.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim
from tqdm import tqdm

from codiemb.lexical.without_jax import bm25s
from codiemb.lexical.words import bm25_tokens
from codiemb.tables import pipe_table
from data_prep.search import top_k_blocks
from data_prep.search.bm25 import Bm25Index
from experiments.benchmarks.machine import matmul_rate, memory_mib, page, reset_peak_memory

WIDTH = 384
TOP = 61
_PEER_BLOCK = 16_384  # queries, mine_hard_negatives' default
Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _ours(query_QD: np.ndarray, document_ND: np.ndarray) -> np.ndarray:
    return np.concatenate([block.document_C for block in top_k_blocks(query_QD, document_ND, TOP)])


def _faiss(query_QD: np.ndarray, document_ND: np.ndarray) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatIP(WIDTH)
    index.add(document_ND)
    return index.search(query_QD, TOP)[1]


def _peer_search(query_QD: np.ndarray, document_ND: np.ndarray) -> np.ndarray:
    """The lines of mine_hard_negatives that search, without the rest of it."""
    found = []
    for start in range(0, len(query_QD), _PEER_BLOCK):
        scores = cos_sim(query_QD[start : start + _PEER_BLOCK], document_ND)
        found.append(torch.topk(scores, k=TOP, dim=1)[1])
    return torch.cat(found).numpy()


def _peer(query_QD: np.ndarray, document_ND: np.ndarray) -> np.ndarray:
    """All of it, with a model that has its embeddings ready; text i of a side has row i."""
    model = SimpleNamespace(
        device=torch.device("cpu"),
        encode_query=lambda texts, **_: query_QD,
        encode_document=lambda texts, **_: document_ND,
        similarity=cos_sim,
        similarity_pairwise=pairwise_cos_sim,
    )
    queries = [f"query {n}" for n in range(len(query_QD))]
    corpus = [f"document {n}" for n in range(len(document_ND))]
    pairs = Dataset.from_dict({"query": queries, "positive": corpus[: len(queries)]})
    mined = mine_hard_negatives(pairs, model, corpus=corpus, range_max=TOP - 1, verbose=False)
    return np.zeros(len(mined), dtype=np.int64)  # texts, not places


SEARCHES: dict[str, Search] = {
    "codiemb": _ours,
    "flat FAISS": _faiss,
    "mine_hard_negatives": _peer,
    "its search alone": _peer_search,
}


def write_embeddings(folder: Path, queries: int, documents: int) -> None:
    """Random unit vectors, in files."""
    rng = np.random.default_rng(0)
    for name, rows in (("queries", queries), ("documents", documents)):
        values = rng.standard_normal((rows, WIDTH), dtype=np.float32)
        np.save(folder / f"{name}.npy", values / np.linalg.norm(values, axis=1, keepdims=True))


def measure_search(name: str, folder: Path, rate_size: int = 2_048) -> dict[str, float]:
    """One search in this process. Extra memory: the peak over what was there, less the mapped files."""
    search = SEARCHES[name]
    rng = np.random.default_rng(1)
    search(*(rng.standard_normal((rows, WIDTH), dtype=np.float32) for rows in (70, 900)))  # warm-up
    # copy-on-write: nobody writes, and torch takes a read-only array for a danger
    query_QD, document_ND = (np.load(folder / f"{n}.npy", mmap_mode="c") for n in ("queries", "documents"))
    _, rate = matmul_rate(size=rate_size)
    before = memory_mib("VmRSS")
    reset_peak_memory()
    started = time.process_time()
    found = search(query_QD, document_ND)
    seconds = time.process_time() - started
    mapped = (query_QD.nbytes + document_ND.nbytes) / 2**20
    extra = memory_mib("VmHWM") - before - mapped
    np.save(folder / f"{name}.npy", found.reshape(len(query_QD), -1) if found.size else found)
    flops = 2.0 * len(query_QD) * len(document_ND) * WIDTH
    return {"cpu_seconds": seconds, "share": flops / seconds / rate, "extra_mib": extra}


def texts(documents: int, queries: int) -> tuple[list[str], list[str]]:
    """Words of Zipf's law: 80 a document and 10 a query, as many frequent ones as a language has."""
    rng = np.random.default_rng(0)
    weight = 1 / (np.arange(120_000) + 3.0) ** 1.05

    def draw(count: int, words: float) -> list[str]:
        lengths = rng.poisson(words, count).clip(2)
        drawn = rng.choice(len(weight), lengths.sum(), p=weight / weight.sum())
        return [" ".join(f"w{n}" for n in part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]

    return draw(documents, 80), draw(queries, 10)


def measure_bm25(name: str, documents: int, queries: int) -> dict[str, float]:
    """Queries a CPU second, of texts, tokens included; the index is not."""
    corpus, asked = texts(documents, queries)
    if name == "codiemb":
        index = Bm25Index(corpus)
        started = time.process_time()
        index.top_k(asked, TOP)
    else:
        model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        model.index([bm25_tokens(text) for text in corpus], show_progress=False)
        started = time.process_time()
        model.retrieve([bm25_tokens(text) for text in asked], k=TOP, show_progress=False)
    return {"queries_per_second": queries / (time.process_time() - started)}


def _in_own_process(*arguments: str) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | _known_kernels()
    command = [sys.executable, "-m", "experiments.benchmarks.mine", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _known_kernels() -> dict[str, str]:
    """FAISS's wheel has an OpenBLAS that takes SSE3 kernels on a CPU newer than itself: name better ones."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("avx512_f"):
        return {"OPENBLAS_CORETYPE": "SkylakeX"}
    return {"OPENBLAS_CORETYPE": "Haswell"} if capabilities.get("avx2") else {}


def differing_queries(folder: Path, queries: int) -> dict[str, int]:
    """Of how many queries a search has other documents, or in another order, than float64 has."""
    exact = np.load(folder / "codiemb.npy")
    names = [name for name in ("flat FAISS", "its search alone") if (folder / f"{name}.npy").is_file()]
    return {name: int((np.load(folder / f"{name}.npy") != exact).any(axis=1).sum()) for name in names}


def _compare(args: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """All searches in turns."""
    names = [name for name in SEARCHES if name != "flat FAISS" or find_spec("faiss")]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    plan = [name for _ in range(args.rounds) for name in names]
    for name in tqdm(plan, desc="searches"):
        run = (
            measure_search(name, folder, rate_size=64)
            if args.quick
            else _in_own_process("--search", name, "--folder", str(folder))
        )
        measured[name].append(run)
    return measured


def _search_table(measured: dict[str, list[dict[str, float]]]) -> str:
    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in measured[name])

    own = median("codiemb", "cpu_seconds")
    header = ("search", "CPU seconds", "codiemb / it", "of fp32 matmul rate", "memory beyond embeddings")
    rows = [
        [
            name,
            f"{median(name, 'cpu_seconds'):.1f}",
            f"{own / median(name, 'cpu_seconds'):.2f}",
            f"{median(name, 'share'):.0%}",
            f"{max(run['extra_mib'] for run in runs):,.0f} MiB",
        ]
        for name, runs in measured.items()
    ]
    return pipe_table([header, *rows])


def _bm25_table(args: argparse.Namespace) -> str:
    runs: dict[str, list[float]] = {"codiemb": [], "bm25s.retrieve": []}
    for name in tqdm([name for _ in range(args.rounds) for name in runs], desc="BM25"):
        sizes = ("--documents", str(args.documents), "--queries", str(args.bm25_queries))
        run = (
            measure_bm25(name, args.documents, args.bm25_queries)
            if args.quick
            else _in_own_process("--bm25", name, *sizes)
        )
        runs[name].append(run["queries_per_second"])
    header = ("BM25", "queries a CPU second")
    return pipe_table([header, *([name, f"{statistics.median(rates):,.0f}"] for name, rates in runs.items())])


def _large(rows: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        write_embeddings(Path(name), rows, rows)
        run = _in_own_process("--search", "codiemb", "--folder", name)
    return f"""{rows:,} x {rows:,}, ours alone, once: {run["cpu_seconds"]:.0f} CPU seconds,
        {run["share"]:.0%} of the fp32 matmul rate, {run["extra_mib"]:,.0f} MiB beyond the embeddings (the
        result itself is {rows * TOP * 8 / 2**20:,.0f} of them)."""


def _report(args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_embeddings(folder, args.queries, args.documents)
        measured = _compare(args, folder)
        different = differing_queries(folder, args.queries)
    first = f"""{args.queries:,} queries x {args.documents:,} documents, D = {WIDTH}, the best {TOP} of each,
        fp32 unit vectors memory-mapped from .npy files. Medians of {args.rounds} rounds in turns; a run is a
        process with one thread. Memory is the largest peak of the process over what it held before, less the
        two mapped files ({(args.queries + args.documents) * WIDTH * 4 / 2**20:.0f} MiB). Shares count
        2 Q N D = {2 * args.queries * args.documents * WIDTH / 1e9:,.0f} GFLOP; above 100% is possible where
        bf16 products are faster than fp32 ones."""
    second = f"""codiemb's documents and order are those of float64 (tests/data_prep/search). Queries with
        others: {", ".join(f"{count:,} of {name}" for name, count in different.items())}. mine_hard_negatives
        is the whole call with range_max={TOP - 1} and a model that has its embeddings ready; its search alone
        are its lines that score and sort. FAISS's wheel brings an OpenBLAS that knows no CPU newer than
        itself and takes SSE3 kernels there, so it runs with
        {" ".join(f"{key}={value}" for key, value in _known_kernels().items()) or "its own choice"}."""
    third = f"""BM25: {args.bm25_queries:,} queries of 10 words, {args.documents:,} documents of 80, drawn by
        Zipf's law; tokens included, the index not."""
    parts = [first, _search_table(measured), second, third, _bm25_table(args)]
    if args.large:
        parts.append(_large(100_000))
    packages = ["torch", "sentence-transformers", "bm25s", *(["faiss-cpu"] if find_spec("faiss") else [])]
    return page("Finding candidates", parts, packages)


def main() -> None:
    """Measure, print the tables, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--bm25-queries", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="also 100,000 x 100,000, ours alone, once")
    parser.add_argument(
        "--quick", action="store_true", help="tiny, one round, one process, numbers without meaning"
    )
    parser.add_argument("--search", choices=list(SEARCHES), help=argparse.SUPPRESS)
    parser.add_argument("--bm25", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.search:
        print(json.dumps(measure_search(args.search, args.folder)))
        return
    if args.bm25:
        print(json.dumps(measure_bm25(args.bm25, args.documents, args.queries)))
        return
    if args.quick:
        args.queries, args.documents, args.bm25_queries, args.rounds = 200, 1_000, 50, 1
    args.out.write_text(_report(args), "utf-8")
    print(args.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
