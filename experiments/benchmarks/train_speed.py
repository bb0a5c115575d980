"""Is training here faster than with sentence-transformers, on the same work and in the same run?

    python experiments/benchmarks/train_speed.py                  # all rows, 5 to 20 minutes on 2 cores
    python experiments/benchmarks/train_speed.py --rows plain     # the main row only

Both sides train the same BERT from the same random weights on the same batches with the same loss, optimizer
and clipping, each in a process of its own, taking turns. Writes train_speed.md beside this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, cast

import torch
from train_speed_report import SIDES, Row, report
from train_speed_work import Job, cost, write_folder

_HERE = Path(__file__).parent
_ROWS: dict[str, dict[str, Any]] = {
    "plain": {"title": "pairs, no dropout"},
    "triplets": {"title": "one hard negative, no dropout", "negatives": 1},
    "dropout": {"title": "pairs, BERT's dropout 0.1", "attention_dropout": 0.1, "hidden_dropout": 0.1},
    "bf16": {"title": "pairs, bf16 autocast", "bf16": True},
}


class Side:
    """One trainer in its own process, waiting for its turns."""

    def __init__(self, name: str, folder: Path, log: IO[bytes]) -> None:
        command = [sys.executable, str(_HERE / "train_speed_sides.py"), name, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self.name = name
        self.start = self._read()

    def train(self, steps: int) -> dict[str, Any]:
        """Run some steps and return their time, losses and the peak memory so far."""
        cast(IO[str], self.process.stdin).write(f"{steps}\n")
        cast(IO[str], self.process.stdin).flush()
        return self._read()

    def close(self) -> None:
        """End of input ends the process."""
        cast(IO[str], self.process.stdin).close()
        self.process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        line = cast(IO[str], self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"the {self.name} side died; its log is printed above")
        return json.loads(line)


def matmul_rate(size: int = 2048, repeats: int = 7) -> tuple[float, float]:
    """fp32 flops of a large square product, a second and a CPU second, medians."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    rates = []
    for _ in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        a @ b
        elapsed = time.perf_counter() - started, time.process_time() - cpu_started
        rates.append([2 * size**3 / seconds for seconds in elapsed])
    wall, cpu = zip(*rates, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def measure(job: Job, rounds: int, warmup: int, steps: int) -> Row:
    """Train both sides in turns and check that they did the same work."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as log:
        folder = Path(name)
        write_folder(job, folder)
        row = Row(job, cost(job, folder))
        try:
            sides = [Side(side, folder, log) for side in SIDES]
            _check_same_start(sides)
            for side in sides:
                row.start_mib[side.name] = side.start["memory_before_mib"]
                row.losses[side.name] += side.train(warmup)["losses"]
            for index in range(rounds):
                _round(row, sides, slice(warmup + index * steps, warmup + (index + 1) * steps))
            for side in sides:
                side.close()
        except RuntimeError:
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-4000:])
            raise
    _check_same_losses(row)
    return row


def _round(row: Row, sides: list[Side], steps: slice) -> None:
    """One turn of each side on the same steps; who begins changes from round to round."""
    rate, cpu_rate = matmul_rate()
    row.matmul_flops.append(rate)
    row.matmul_flops_cpu.append(cpu_rate)
    row.tokens.append(sum(row.cost.tokens[steps]))
    row.flops.append(sum(row.cost.flops[steps]))
    row.loads.append(os.getloadavg()[0])
    for side in sides if len(row.tokens) % 2 else reversed(sides):
        result = side.train(steps.stop - steps.start)
        row.seconds[side.name].append(result["seconds"])
        row.cpu_seconds[side.name].append(result["cpu_seconds"])
        row.losses[side.name] += result["losses"]
        row.peak_mib[side.name] = result["peak_memory_mib"]
    peer, ours = (row.tokens[-1] / row.seconds[side][-1] for side in SIDES)
    print(f"  round {len(row.tokens)}: {peer:,.0f} against {ours:,.0f} useful tokens/s", flush=True)


def _check_same_start(sides: list[Side]) -> None:
    """Same weights, same batch, same loss: without dropout both must see the same number."""
    peer, ours = (side.start["start_loss"] for side in sides)
    if abs(peer - ours) > 1e-3:
        raise RuntimeError(f"the sides do not start from the same loss: {peer} against {ours}")
    print(f"  same first loss: {peer:.6f} and {ours:.6f}", flush=True)


def _check_same_losses(row: Row) -> None:
    """Without dropout the training losses of both sides must stay together, or the updates differ."""
    random = row.job.attention_dropout or row.job.hidden_dropout or row.job.bf16
    gap = max(abs(a - b) for a, b in zip(*row.losses.values(), strict=True))
    if not random and gap > 1e-2:
        raise RuntimeError(f"the losses of the two sides drift apart by {gap}: {row.losses}")
    print(f"  largest difference of two losses over {row.job.steps} steps: {gap:.1e}", flush=True)


def main() -> None:
    """Measure the rows asked for, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(_ROWS), default=["plain", "triplets", "dropout"])
    parser.add_argument("--texts", type=int, default=28, help="texts a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of each side in a round")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the clock runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--hidden-size", type=int, default=320)
    parser.add_argument("--num-layers", type=int, default=7)
    parser.add_argument("--out", type=Path, default=_HERE / "train_speed.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the two sides
    rows = []
    for name in args.rows:
        settings = {"negatives": 0, **_ROWS[name]}
        job = Job(
            **settings,
            pairs=args.texts // (2 + settings["negatives"]),
            steps=args.warmup + args.rounds * args.steps,
            hidden_size=args.hidden_size,
            num_layers=args.num_layers,
        )
        print(job.title, flush=True)
        rows.append(measure(job, args.rounds, args.warmup, args.steps))
        args.out.write_text(report(rows, args.rounds, args.steps), "utf-8")
    print(report(rows, args.rounds, args.steps))


if __name__ == "__main__":
    main()
