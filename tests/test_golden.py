"""A refactor proves itself by an identical loss curve: 20 steps of the default recipe, in tests/golden.

`python -m tests.test_golden` writes the curve anew: only for a change that is meant to change training.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl

from tests.support import golden_run
from tests.support.paths import GOLDEN

CURVE = GOLDEN / "loss_curve.json"


class Curve(pl.Callback):
    """Collects task and loss of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append((batch.task, float(outputs["loss"])))


def loss_curve(folder: Path) -> list[tuple[str, float]]:
    """Compose the default recipe on the golden files and train it for 20 steps."""
    curve = Curve()
    golden_run.fit(
        folder,
        "model.architecture.hidden_size=64",
        "optimizer.lr=2e-3",  # pinned: the curve guards the code, not the tuning
        "max_steps=20",
        "callbacks.probe=null",
        callbacks=(curve,),
    )
    return curve.steps


@pytest.mark.filterwarnings("ignore")  # third-party warnings of Lightning; ours are tested elsewhere
def test_twenty_steps_of_the_default_recipe_give_the_stored_loss_curve(tmp_path: Path) -> None:
    curve = loss_curve(tmp_path)
    stored = json.loads(CURVE.read_text("utf-8"))
    assert [task for task, _ in curve] == [task for task, _ in stored]
    assert {task for task, _ in curve} == {"ir", "sts"}
    # 2e-4: other CPUs sum in another order, and 20 steps of Adam from random weights amplify it
    assert [loss for _, loss in curve] == pytest.approx([loss for _, loss in stored], rel=2e-4)
    tail = [loss for task, loss in curve if task == "ir"]
    assert tail[-1] < tail[0]


def write(make: Callable[[Path], list[tuple[str, float]]]) -> None:
    """Store a new curve."""
    with tempfile.TemporaryDirectory() as folder:
        CURVE.write_text(json.dumps(make(Path(folder)), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write(loss_curve)
