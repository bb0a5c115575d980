"""What tests of resumed runs share: a killed run, and the comparison of two."""

import json
import signal
from pathlib import Path

import pytorch_lightning as pl
import torch

from codiemb.training.checkpoint_files import last_good


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved or tidied up after it."""


class StopBefore(pl.Callback):
    """Kills the run, or sends it a signal, before a micro-step."""

    def __init__(self, micro_step: int, signum: int = 0) -> None:
        self.micro_step = micro_step
        self.signum = signum

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.fit_loop.batch_idx == self.micro_step:
            if not self.signum:
                raise Killed
            signal.raise_signal(self.signum)


def state(folder: Path) -> dict:
    saved = last_good(folder / "checkpoints")
    assert saved is not None
    return torch.load(saved.path, weights_only=True)


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith("perf/")} for row in rows]


def assert_same_run(folder: Path, other: Path) -> None:
    """Weights, optimizer, schedule and every logged value, to the bit."""
    ours, theirs = state(folder), state(other)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert lines(folder) == lines(other)
