"""What train_speed.py measured, as numbers and as a page."""

import os
import platform
import statistics
import sys
import textwrap
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from train_speed_work import Cost, Job

SIDES = ("peer", "ours")


def _per_side() -> dict[str, list[float]]:
    return {side: [] for side in SIDES}


@dataclass
class Row:
    """All that was measured for one row of the table."""

    job: Job
    cost: Cost
    seconds: dict[str, list[float]] = field(default_factory=_per_side)
    cpu_seconds: dict[str, list[float]] = field(default_factory=_per_side)
    losses: dict[str, list[float]] = field(default_factory=_per_side)
    peak_mib: dict[str, float] = field(default_factory=dict)
    start_mib: dict[str, float] = field(default_factory=dict)
    matmul_flops: list[float] = field(default_factory=list)  # a second
    matmul_flops_cpu: list[float] = field(default_factory=list)  # a CPU second
    loads: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # of each round
    flops: list[float] = field(default_factory=list)

    def speed(self, side: str) -> float:
        """Useful tokens a second, median over the rounds."""
        return statistics.median(t / s for t, s in zip(self.tokens, self.seconds[side], strict=True))

    def ratio(self, *, cpu: bool = False) -> float:
        """Ours over theirs: the median of the rounds' ratios, so that a noisy minute hits both."""
        seconds = self.cpu_seconds if cpu else self.seconds
        pairs = zip(seconds["peer"], seconds["ours"], strict=True)
        return statistics.median(peer / ours for peer, ours in pairs)

    def share(self, side: str, *, cpu: bool = False) -> float:
        """Share of the fp32 matmul rate that was measured in the same round."""
        seconds = self.cpu_seconds if cpu else self.seconds
        rates = self.matmul_flops_cpu if cpu else self.matmul_flops
        rounds = zip(self.flops, seconds[side], rates, strict=True)
        return statistics.median(flops / took / rate for flops, took, rate in rounds)

    def useful(self) -> float:
        """Share of the peer's padded batches that is not padding."""
        return sum(self.cost.tokens) / sum(self.cost.padded_tokens)


def table(rows: list[Row]) -> str:
    """The result as a Markdown table, one line for each row and side."""
    lines = [
        "| work | trainer | useful tokens/s | ratio | ratio in CPU time | of fp32 matmul rate | in CPU time "
        "| peak memory (growth) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    names = {"peer": "sentence-transformers", "ours": "codiemb"}
    for row in rows:
        for side in SIDES:
            ratios = (row.ratio(), row.ratio(cpu=True)) if side == "ours" else (1.0, 1.0)
            cells = [row.job.title, names[side], f"{row.speed(side):,.0f}"]
            cells += [f"{ratio:.2f}x" for ratio in ratios]
            cells += [f"{row.share(side, cpu=cpu):.0%}" for cpu in (False, True)]
            growth = row.peak_mib[side] - row.start_mib[side]
            cells.append(f"{row.peak_mib[side]:,.0f} MiB (+{growth:,.0f})")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(rows: list[Row], rounds: int, steps: int) -> str:
    """The Markdown page: what was done, the table, how and on what it was measured."""
    job, cost = rows[0].job, rows[0].cost
    rate = statistics.median(rate for row in rows for rate in row.matmul_flops) / 1e9
    load = statistics.median(load for row in rows for load in row.loads)
    work = f"""Same BERT ({cost.parameters / 1e6:.1f}M parameters, {cost.body_parameters / 1e6:.1f}M without
        embeddings and pooler, {job.num_layers} layers, width {job.hidden_size}) from the same random weights,
        same batches of ragged Chinese-like passages (median 175, 90th percentile 480 characters, at most 512
        tokens; {job.texts} texts and {statistics.mean(cost.tokens):,.0f} useful tokens a step), same loss
        (InfoNCE, temperature 0.02), AdamW and clipping. {rows[0].useful():.0%} of a padded batch is useful.
        Tokenisation is part of the time. The first loss agrees within 1e-3, and without dropout every later
        one within 1e-2."""
    method = f"""Medians of {rounds} rounds of {steps} step(s) in turns. Flops: 6 per parameter and useful
        token,
        plus 12 x length^2 x width per sequence and layer; the matmul rate is that of 2048 x 2048 in fp32,
        measured in every round. CPU time leaves out what other programs on the machine
        took, and is exact with one thread; with more, idle threads may spin. Growth: over the memory before
        model and data were loaded."""
    packages = ("torch", "transformers", "sentence-transformers", "pytorch-lightning")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    machine = f"""Machine: {_cpu()}, {os.cpu_count()} cores of which {torch.get_num_threads()} used, fp32
        matmul rate {rate:.0f} GFLOP/s, load average before each round {load:.1f}. {versions},
        Python {platform.python_version()}; {date.today().isoformat()}."""
    command = f"Run: `{' '.join(['python experiments/benchmarks/train_speed.py', *sys.argv[1:]])}`"
    paragraphs = (work, table(rows), method, machine, command)
    return "\n\n".join(["# Training speed against sentence-transformers", *map(_wrap, paragraphs)]) + "\n"


def _wrap(paragraph: str) -> str:
    return paragraph if paragraph.startswith("|") else textwrap.fill(" ".join(paragraph.split()), 110)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
