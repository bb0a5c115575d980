"""Does every strategy train as one process does, and does a resumed run end as a whole one?

    python -m experiments.gpu_check.strategies --device cuda --out strategies.md
    python -m experiments.gpu_check.strategies --device cpu --out strategies.md    # DeepSpeed with gloo

run_train.py itself, a process each: a tiny model, four steps of both tasks in fp32 with SGD. What is compared
is every logged loss and the exported weights. A resumed run is a copy of the first one's folder as it was
after two steps.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors.torch import load_file

from codiemb.tables import pipe_table
from experiments.gpu_check.parts import ROOT

GOLDEN = ROOT / "tests" / "golden"
STRATEGIES = ("fsdp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3")
AT_ONCE = max(1, min(5, (os.cpu_count() or 1) // 2))  # most of a run is imports, on one core
LIMIT = 1e-4  # of a loss, relative, and of the largest entry of a tensor
Launch = Callable[[Sequence[str]], None]


def overrides(device: str, folder: Path) -> list[str]:
    """Of a run that takes seconds and needs no data but the tests'."""
    return [
        "data=files",
        f"data.files=[{GOLDEN}/ir.jsonl,{GOLDEN}/sts.jsonl]",
        f"data.cache={folder.parent / 'cache'}",
        "data.num_workers=0",
        "model=bert_tiny",
        f"model.tokenizer={GOLDEN}/tokenizer",
        "model.architecture.hidden_size=64",
        "model.architecture.intermediate_size=128",
        "model.max_tokens=64",
        "tasks.ir.global_batch_size=8",
        "tasks.sts.global_batch_size=8",
        "sampler=alternate",
        "optimizer=sgd",
        "max_steps=4",
        "evaluate.before=false",
        "evaluate.after=false",
        "logger=local",
        "callbacks.probe=null",
        "callbacks.progress=null",
        "callbacks.checkpoint.every_n_steps=2",
        "trainer.log_every_n_steps=1",
        f"trainer.accelerator={'cuda' if device == 'cuda' else 'cpu'}",
        "trainer.devices=1",
        f"hydra.run.dir={folder}",
    ]


def losses(folder: Path) -> list[float]:
    """Of every step, as logged."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row[name] for row in rows for name in ("train/loss/ir", "train/loss/sts") if name in row]


def gaps(folder: Path, other: Path) -> tuple[float, float]:
    """Largest relative difference of a loss, and of exported tensors beside their largest entry."""
    ours, theirs = losses(folder), losses(other)
    if len(ours) != len(theirs):
        raise RuntimeError(f"{folder.name} has logged {len(ours)} losses, {other.name} {len(theirs)}")
    loss = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    found, expected = (load_file(f / "export" / "model.safetensors") for f in (folder, other))
    tensors = [
        float((found[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-6))
        for name, tensor in expected.items()
    ]
    return loss, max(tensors)


def as_after_two_steps(folder: Path, copy: Path) -> None:
    """What a run would have left that was killed after its checkpoint of step 2."""
    shutil.copytree(folder, copy)
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "export")
    for file in (copy / "checkpoints").glob("step-4*"):
        file.unlink()


def compare(
    folder: Path, device: str, strategies: Sequence[str], launch: Launch, at_once: int = 1
) -> tuple[str, bool]:
    """Train with one process, once more from half-way, and with each strategy; whether all agree."""
    launch(overrides(device, folder / "one"))
    as_after_two_steps(folder / "one", folder / "resumed")
    runs = {"resumed": "resume=true"} | {name: f"strategy={name}" for name in strategies}
    with ThreadPoolExecutor(at_once) as pool:
        each = pool.map if at_once > 1 else map
        list(each(lambda name: launch([*overrides(device, folder / name), runs[name]]), runs))
    rows, fits = [], True
    for name in runs:
        found = gaps(folder / name, folder / "one")
        good = max(found) <= LIMIT
        rows.append((name, "as one process" if good else "NOT as one process", *(f"{x:.0e}" for x in found)))
        fits &= good
    return pipe_table([("run", "result", "losses", "weights"), *rows], 2), fits


def start(arguments: Sequence[str]) -> None:
    """run_train.py in a process of its own; on a CPU DeepSpeed has to be let."""
    without_card = "trainer.accelerator=cpu" in arguments and any(
        word.startswith("strategy=deepspeed") for word in arguments
    )
    script = ["-m", "experiments.gpu_check.on_cpu"] if without_card else [str(ROOT / "run_train.py")]
    subprocess.run([sys.executable, *script, *arguments], check=True, cwd=ROOT)


def main() -> None:
    """Compare, write the table, exit with 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, fits = compare(Path(folder), args.device, STRATEGIES, start, AT_ONCE)
    args.out.write_text(text, "utf-8")
    sys.exit(0 if fits else 1)


if __name__ == "__main__":
    main()
