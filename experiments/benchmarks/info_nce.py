"""Is InfoNCE on large batches bounded in memory, and no slower than the direct computation?

    python -m experiments.benchmarks.info_nce            # 16k, 32k, 64k rows, about 6 minutes on 2 cores
    python -m experiments.benchmarks.info_nce --quick    # does it run at all?

One positive a query, D = 1024, fp32, false negatives masked by content hash in ours (the direct computation,
cross-entropy over all logits, masks nothing). Every measurement is a process of its own. Writes info_nce.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from codiemb.batch import EmbeddedBatch, Groups
from codiemb.losses import InfoNCE
from codiemb.tables import pipe_table
from experiments.benchmarks.machine import matmul_rate, memory_mib, page, reset_peak_memory

_LOSSES: dict[str, Callable[[EmbeddedBatch], Tensor]] = {
    "direct": lambda batch: cross_entropy(
        batch.query_BD @ batch.document_ND.T / 0.02, torch.arange(len(batch.query_BD))
    ),
    "codiemb": lambda batch: InfoNCE(0.02)(batch).value,
}


def _batch(rows: int, width: int) -> EmbeddedBatch:
    number = torch.arange(rows)
    query_BD, document_ND = (torch.randn(rows, width) / width**0.5 for _ in range(2))
    return EmbeddedBatch(
        query_BD=query_BD.requires_grad_(),
        document_ND=document_ND.requires_grad_(),
        groups=Groups(
            owner_N=number,
            is_positive_N=torch.ones(rows, dtype=torch.bool),
            score_N=torch.full((rows,), torch.nan),
            query_hash_B=number,
            document_hash_N=number + rows,
        ),
    )


def _measure(name: str, rows: int, width: int) -> dict[str, float]:
    """One step in this process. Extra memory: over embeddings and their gradients, both 2 x rows x width."""
    loss = _LOSSES[name]
    loss(_batch(600, width)).backward()  # the libraries' own memory is not the loss's
    torch.manual_seed(0)
    batch = _batch(rows, width)
    flops = 6.0 * rows * rows * width
    _, rate = matmul_rate(size=min(rows, 2048))
    before = memory_mib("VmRSS")
    reset_peak_memory()
    started, cpu_started = time.perf_counter(), time.process_time()
    value = loss(batch)
    value.backward()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    gradients = 2 * rows * width * 4 / 2**20
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "share": flops / cpu_seconds / rate,
        "extra_mib": memory_mib("VmHWM") - before - gradients,
        "loss": value.item(),
    }


def _in_own_process(name: str, rows: int, width: int, threads: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "experiments.benchmarks.info_nce",
        "--measure",
        name,
        "--rows",
        str(rows),
        "--width",
        str(width),
    ]
    done = subprocess.run(
        [*command, "--threads", str(threads)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def _fits(name: str, rows: int) -> bool:
    """The direct computation holds three matrices of logits; leave a fifth of the memory to others."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return name != "direct" or 3 * rows * rows * 4 < 0.8 * memory


def _cells(rows: int, name: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    if not runs[name]:
        return [f"{rows:,}", name, *["does not fit"] * 5]

    def median(key: str, of: str = name) -> float:
        return statistics.median(run[key] for run in runs[of])

    ratios = ["", ""]
    if runs["direct"]:
        ratios = [f"{median(key) / median(key, 'direct'):.2f}" for key in ("seconds", "cpu_seconds")]
    extra = max(run["extra_mib"] for run in runs[name])
    cells = [f"{rows:,}", name, f"{extra:,.0f} MiB", f"{median('seconds'):.1f} s"]
    return [*cells, *ratios, f"{median('share'):.0%}"]


def _report(width: int, measured: dict[int, dict[str, list[dict[str, float]]]]) -> str:
    text = f"""InfoNCE of R queries against R documents, D = {width}, fp32, value and gradient of both. Extra
        memory is the peak of the process during the step over what it held before (embeddings included),
        less the gradients of queries and documents. Shares count 6 x R x R x D flops and CPU time. Medians
        of the runs, the largest extra memory."""
    header = ("rows", "computation", "extra memory", "time", "/ direct", "in CPU time", "of fp32 matmul rate")
    rows = [_cells(size, name, runs) for size, runs in measured.items() for name in runs]
    return page("InfoNCE on large batches", (text, pipe_table([header, *rows], 2)), ("torch",))


def _compare(sizes: list[int], rounds: int, width: int, threads: int) -> dict:
    """Both computations in turns; from 32k rows on, whose runs are long, one round."""
    plan = [
        (size, name)
        for size in sizes
        for _ in range(rounds if size < 32_768 else 1)
        for name in _LOSSES
        if _fits(name, size)
    ]
    measured: dict = {size: {name: [] for name in _LOSSES} for size in sizes}
    with tqdm(total=sum(size**2 for size, _ in plan), unit="logit", unit_scale=True) as bar:
        for size, name in plan:
            bar.set_description(f"{name} {size:,}")
            measured[size][name].append(_in_own_process(name, size, width, threads))
            bar.update(size**2)
    return measured


def main() -> None:
    """Measure, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[16_384, 32_768, 65_536])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="tiny, one round, numbers without meaning")
    parser.add_argument("--measure", choices=list(_LOSSES), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure:
        print(json.dumps(_measure(args.measure, args.rows[0], args.width)))
        return
    if args.quick:
        args.rows, args.rounds, args.width = [700], 1, 32
    measured = _compare(args.rows, args.rounds, args.width, args.threads)
    args.out.write_text(_report(args.width, measured), "utf-8")
    print(args.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
