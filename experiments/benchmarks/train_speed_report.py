"""What train_speed.py measured, as numbers and as a page."""

import os
import platform
import statistics
import textwrap
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from train_speed_work import Cost, Job

SIDES = ("peer", "ours")


@dataclass
class Row:
    """All that was measured for one row of the table."""

    job: Job
    cost: Cost
    seconds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    losses: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    peak_mib: dict[str, float] = field(default_factory=dict)
    start_mib: dict[str, float] = field(default_factory=dict)
    matmul_flops: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # of each round
    flops: list[float] = field(default_factory=list)

    def speed(self, side: str) -> float:
        """Useful tokens a second, median over the rounds."""
        return statistics.median(t / s for t, s in zip(self.tokens, self.seconds[side], strict=True))

    def ratio(self) -> float:
        """Ours over theirs: the median of the rounds' ratios, so that a noisy minute hits both."""
        pairs = zip(self.seconds["peer"], self.seconds["ours"], strict=True)
        return statistics.median(peer / ours for peer, ours in pairs)

    def share(self, side: str) -> float:
        """Share of the fp32 matmul rate that was measured in the same round."""
        rounds = zip(self.flops, self.seconds[side], self.matmul_flops, strict=True)
        return statistics.median(flops / seconds / rate for flops, seconds, rate in rounds)

    def useful(self) -> float:
        """Share of the peer's padded batches that is not padding."""
        return sum(self.cost.tokens) / sum(self.cost.padded_tokens)


def table(rows: list[Row]) -> str:
    """The result as a Markdown table, one line for each row and side."""
    lines = [
        "| work | trainer | useful tokens/s | ratio | of fp32 matmul rate | peak memory (growth) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    names = {"peer": "sentence-transformers", "ours": "codiemb"}
    for row in rows:
        for side in SIDES:
            ratio = f"{row.ratio():.2f}x" if side == "ours" else ""
            memory = f"{row.peak_mib[side]:,.0f} MiB (+{row.peak_mib[side] - row.start_mib[side]:,.0f})"
            lines.append(
                f"| {row.job.title} | {names[side]} | {row.speed(side):,.0f} | {ratio} "
                f"| {row.share(side):.0%} | {memory} |"
            )
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
        measured in every round. Growth: over the memory before model and data were loaded."""
    packages = ("torch", "transformers", "sentence-transformers", "pytorch-lightning")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    machine = f"""Machine: {_cpu()}, {os.cpu_count()} cores of which {torch.get_num_threads()} used, fp32
        matmul rate {rate:.0f} GFLOP/s, load average before each round {load:.1f}. {versions},
        Python {platform.python_version()}; {date.today().isoformat()}."""
    command = "Run: `python experiments/benchmarks/train_speed.py`"
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
