"""What train_speed.py measured, as numbers and as a page."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

import torch

from codiemb.tables import pipe_table
from experiments.benchmarks.machine import page
from experiments.benchmarks.train_speed_sides import Contender
from experiments.benchmarks.workload import Cost, Job


@dataclass
class Row:
    """All that was measured for one row of the table; lists have one entry a round."""

    job: Job
    cost: Cost
    contenders: list[Contender]  # the first is what all are compared with
    steps: list[int] = field(default_factory=list)  # the step of the job that the round trained
    seconds: dict[Contender, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_seconds: dict[Contender, list[float]] = field(default_factory=lambda: defaultdict(list))
    losses: dict[Contender, list[float]] = field(default_factory=lambda: defaultdict(list))
    peak_mib: dict[Contender, float] = field(default_factory=dict)
    start_mib: dict[Contender, float] = field(default_factory=dict)
    matmul_flops: list[float] = field(default_factory=list)  # a second
    matmul_flops_cpu: list[float] = field(default_factory=list)  # a CPU second

    def speed(self, contender: Contender) -> float:
        """Useful tokens a second, median over the rounds."""
        rounds = zip(self.steps, self.seconds[contender], strict=True)
        return statistics.median(self.cost.tokens[step] / seconds for step, seconds in rounds)

    def ratio(self, contender: Contender, other: Contender, *, cpu: bool = False) -> float:
        """How many times as fast: the median of the rounds' ratios, so that a noisy minute hits both."""
        seconds = self.cpu_seconds if cpu else self.seconds
        rounds = zip(seconds[contender], seconds[other], strict=True)
        return statistics.median(theirs / its for its, theirs in rounds)

    def share(self, contender: Contender, *, cpu: bool = False) -> float:
        """Share of the fp32 matmul rate that was measured in the same round."""
        seconds = self.cpu_seconds if cpu else self.seconds
        rates = self.matmul_flops_cpu if cpu else self.matmul_flops
        rounds = zip(self.steps, seconds[contender], rates, strict=True)
        return statistics.median(self.cost.flops[step] / took / rate for step, took, rate in rounds)


def table(rows: list[Row]) -> str:
    """The result as a Markdown table, one line for each row and contender."""
    product = "bf16" if rows[0].job.device == "cuda" else "fp32"
    header = ("work", "trainer", "useful tokens/s", "ratio", "ratio of CPU times")
    header += (f"of {product} matmul rate",)
    header += ("of it in CPU time", "time / own plain run", "CPU time / own plain run")
    header += ("peak memory (growth)",)
    return pipe_table([header, *(_cells(row, contender) for row in rows for contender in row.contenders)], 2)


def _cells(row: Row, contender: Contender) -> list[str]:
    first = row.contenders[0]
    cells = [row.job.title, contender.name, f"{row.speed(contender):,.0f}"]
    cells += [f"{row.ratio(contender, first, cpu=cpu):.2f}x" for cpu in (False, True)]
    cells += [f"{row.share(contender, cpu=cpu):.0%}" for cpu in (False, True)]
    plain = contender.plain
    if contender == plain or plain not in row.contenders:
        cells += ["", ""]
    else:
        cells += [f"{1 / row.ratio(contender, plain, cpu=cpu):.2f}" for cpu in (False, True)]
    growth = row.peak_mib[contender] - row.start_mib[contender]
    return [*cells, f"{row.peak_mib[contender]:,.0f} MiB (+{growth:,.0f})"]


def report(rows: list[Row], rounds: int) -> str:
    """The Markdown page: what was done, the table, how and on what it was measured."""
    job, cost = rows[0].job, rows[0].cost
    work = f"""Same BERT ({cost.parameters / 1e6:.1f}M parameters, {cost.body_parameters / 1e6:.1f}M without
        embeddings and pooler, {job.num_layers} layers, width {job.hidden_size}) from the same random
        weights, same batches of Chinese-like texts, same loss (InfoNCE, temperature 0.02), AdamW and
        clipping, in turns and in the same run. Tokenisation is part of the time. The first loss agrees within
        1e-3, and without dropout every later one in fp32 within 1e-2."""
    header = (
        "work",
        "lengths",
        "texts a step",
        "useful tokens",
        "useful when padded",
        "flops padded / useful",
    )
    texts = pipe_table([header, *map(_texts_cells, rows)], 2)
    on_card = job.device == "cuda"
    product = f"8192 x 8192 in bf16 on {torch.cuda.get_device_name()}" if on_card else "2048 x 2048 in fp32"
    method = f"""Medians of {rounds} rounds of one step, after a warm-up. `chunked` is gradient caching:
        chunks of 4 texts a column (sentence-transformers), or of 4 x the longest text in tokens. Flops: 6 per
        parameter and useful token, plus 12 x length^2 x width per sequence and layer; recomputation does not
        count. The matmul rate is that of {product}, measured in every round. CPU time leaves out
        what other programs on the machine took, and is exact with one thread; with more, idle threads may
        spin. Growth: over the memory before model and data were loaded. Ratios are medians of the rounds'
        ratios. codiemb has malloc keep freed memory, as all its runs do by default; sentence-transformers
        has no such setting, and `memory kept` is what it would be with it."""
    packages = ("torch", "transformers", "sentence-transformers", "pytorch-lightning")
    title = "Training speed against sentence-transformers"
    return page(title, (work, texts, table(rows), method), packages)


def _texts_cells(row: Row) -> list[str]:
    job, cost = row.job, row.cost
    return [
        job.title,
        f"median {job.median_length:.0f}, sigma {job.sigma}, at most {job.max_tokens}",
        str(job.texts),
        f"{statistics.mean(cost.tokens):,.0f}",
        f"{cost.useful_share:.0%}",
        f"{cost.padding_factor:.2f}",
    ]
