"""Is training here faster than with sentence-transformers, on the same work and in the same run?

    python -m experiments.benchmarks.train_speed                  # all rows, about 8 minutes on 2 cores
    python -m experiments.benchmarks.train_speed --rows passages  # one row only
    python -m experiments.benchmarks.train_speed --quick          # does it run at all?
    python -m experiments.benchmarks.train_speed --device cuda --hidden-size 768 --num-layers 12 --scale 8
                                                                  # BERT base in bf16 on a card

All contenders of a row train the same BERT from the same random weights on the same batches with the same
loss, optimizer and clipping, each in a process of its own, taking turns. Writes train_speed.md; on a card,
where all contenders compute in bf16, train_speed_cuda.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, cast

import torch
from tqdm import tqdm

from experiments.benchmarks.machine import matmul_rate
from experiments.benchmarks.train_speed_report import Row, report
from experiments.benchmarks.train_speed_sides import Contender
from experiments.benchmarks.workload import Job, cost, write_folder

_HERE = Path(__file__).parent
WARM_UP = 3  # steps: memory that is kept, by malloc or by a cache, takes more than one to settle
_PEER, _OURS = Contender("sentence-transformers"), Contender("codiemb")
_VARIANTS = [
    Contender(trainer, bf16=bf16, chunked=chunked)
    for bf16, chunked in ((False, True), (True, False))
    for trainer in ("sentence-transformers", "codiemb")
]
# what our malloc setting would give the peer, whose users do not have it
_KEPT = Contender("sentence-transformers", keeps_memory=True)
# settings of the job, and who else takes part
_ROWS: dict[str, tuple[dict[str, Any], list[Contender]]] = {
    "short": ({"title": "short pairs", "pairs": 64, "median_length": 20.0, "sigma": 0.5}, []),
    "passages": ({"title": "passages", "pairs": 14}, [_KEPT, *_VARIANTS]),
    "triplets": ({"title": "passages, one hard negative", "pairs": 9, "negatives": 1}, []),
    "dropout": (
        {"title": "passages, dropout 0.1", "pairs": 14, "attention_dropout": 0.1, "hidden_dropout": 0.1},
        [],
    ),
    "long": (
        {"title": "long documents", "pairs": 6, "median_length": 300.0, "sigma": 1.1, "max_tokens": 2048},
        [_KEPT],
    ),
}
_QUICK = {"title": "quick", "pairs": 3, "hidden_size": 64, "num_layers": 1}


class Side:
    """One contender in its own process, waiting for its turns."""

    def __init__(self, contender: Contender, folder: Path, log: IO[bytes]) -> None:
        command = [sys.executable, "-m", "experiments.benchmarks.train_speed_sides", str(folder)]
        self.contender = contender
        self.process = subprocess.Popen(
            [*command, json.dumps(asdict(contender))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def train(self, steps: int) -> dict[str, Any]:
        """Run some steps and return their time, losses and the peak memory so far."""
        cast(IO[str], self.process.stdin).write(f"{steps}\n")
        cast(IO[str], self.process.stdin).flush()
        return self.read()

    def close(self) -> None:
        """End of input ends the process."""
        cast(IO[str], self.process.stdin).close()
        self.process.wait(timeout=60)

    def read(self) -> dict[str, Any]:
        """The next report.

        Raises:
            RuntimeError: the process has died.
        """
        line = cast(IO[str], self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"{self.contender.name} died; its log is printed above")
        return json.loads(line)


@contextmanager
def _sides(contenders: list[Contender], folder: Path) -> Iterator[list[Side]]:
    """All contenders' processes; if one dies, the end of the log they share is printed."""
    with tempfile.TemporaryFile() as log:
        sides = [Side(contender, folder, log) for contender in contenders]
        try:
            yield sides
        except RuntimeError:
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-4000:])
            raise
        finally:
            for side in sides:
                side.close()


def measure(job: Job, contenders: list[Contender], rounds: int, bar: tqdm) -> Row:
    """Train all contenders in turns, one step each, and check that they did the same work."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(job, folder)
        row = Row(job, cost(job, folder), contenders)
        with _sides(contenders, folder) as sides:
            starts = [side.read() for side in sides]
            _check_same([start["start_loss"] for start in starts], 1e-3, "first loss")
            for side, start in zip(sides, starts, strict=True):
                row.start_mib[side.contender] = start["memory_before_mib"]
                row.losses[side.contender] += side.train(WARM_UP)["losses"]
            bar.update(WARM_UP)
            for step in range(WARM_UP, WARM_UP + rounds):
                _round(row, sides, step, bar)
    _check_same_losses(row)
    return row


def _round(row: Row, sides: list[Side], step: int, bar: tqdm) -> None:
    """One turn of each side on the same step; who begins changes from round to round."""
    on_card = row.job.device == "cuda"
    rate, cpu_rate = matmul_rate(torch.bfloat16, 8_192, device="cuda") if on_card else matmul_rate()
    row.matmul_flops.append(rate)
    row.matmul_flops_cpu.append(cpu_rate)
    row.steps.append(step)
    for side in sides if step % 2 else reversed(sides):
        result = side.train(1)
        row.seconds[side.contender].append(result["seconds"])
        row.cpu_seconds[side.contender].append(result["cpu_seconds"])
        row.losses[side.contender] += result["losses"]
        row.peak_mib[side.contender] = result["peak_memory_mib"]
    speeds = (f"{side.contender.name} {row.speed(side.contender):,.0f}" for side in sides)
    bar.set_postfix_str("; ".join(speeds))
    bar.update()


def _check_same_losses(row: Row) -> None:
    """Without dropout, the losses of all fp32 contenders must stay together, or the updates differ."""
    if row.job.attention_dropout or row.job.hidden_dropout:
        return
    exact = [losses for contender, losses in row.losses.items() if not contender.bf16]
    for losses in zip(*exact, strict=True):
        _check_same(list(losses), 1e-2, "loss of a step")


def _check_same(values: list[float], tolerance: float, what: str) -> None:
    if max(values) - min(values) > tolerance:
        raise RuntimeError(f"the contenders do not do the same work: {what} {values}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(_ROWS), default=list(_ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--hidden-size", type=int, default=320)
    parser.add_argument("--num-layers", type=int, default=7)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--scale", type=int, default=1, help="times as many texts a step")
    parser.add_argument(
        "--quick", action="store_true", help="one tiny row and round, numbers without meaning"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.out = args.out or _HERE / ("train_speed_cuda.md" if args.device == "cuda" else "train_speed.md")
    return args


def _rows(args: argparse.Namespace) -> list[tuple[dict[str, Any], list[Contender]]]:
    """Settings of the jobs, and who takes part in each."""
    size = {"hidden_size": args.hidden_size, "num_layers": args.num_layers, "device": args.device}
    if args.quick:
        return [(size | _QUICK, [_PEER, Contender("codiemb", bf16=True, chunked=True)])]
    rows = []
    for settings, others in (_ROWS[name] for name in args.rows):
        contenders = [_PEER, _OURS, *others]
        if args.device == "cuda":  # in bf16, as everybody trains there; malloc is no matter
            halves = (replace(each, bf16=True) for each in contenders if not each.keeps_memory)
            contenders = list(dict.fromkeys(halves))
        rows.append((size | settings | {"pairs": settings["pairs"] * args.scale}, contenders))
    return rows


def main() -> None:
    """Measure the rows asked for, print the table, write the page."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the contenders
    rows, args.rounds = _rows(args), 1 if args.quick else args.rounds
    measured: list[Row] = []
    with tqdm(total=len(rows) * (WARM_UP + args.rounds), unit="round") as bar:
        for settings, contenders in rows:
            bar.set_description(settings["title"])
            job = Job(**settings, steps=WARM_UP + args.rounds)
            measured.append(measure(job, contenders, args.rounds, bar))
            args.out.write_text(report(measured, args.rounds), "utf-8")
    print(report(measured, args.rounds))


if __name__ == "__main__":
    main()
