"""A loss or gradient that is not finite never reaches the weights, on any rank, and is named or dropped."""

import json
import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from codiemb.callbacks.nonfinite import NonFiniteSteps, gradient_norm
from codiemb.errors import UserError
from codiemb.training.checkpoint_files import last_good
from tests.support.tiny_run import DDP, KNOWN_WARNINGS, TinyRun, two_ranks

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS),
]


class Spoil(pl.Callback):
    """Makes the loss, or only its gradient, not finite in one micro-step of one rank."""

    def __init__(self, micro_step: int, what: str = "loss", value: float = math.nan, rank: int = 0) -> None:
        self.micro_step, self.what, self.value, self.rank = micro_step, what, value, rank

    def setup(self, trainer, pl_module, stage) -> None:
        training_step = pl_module.training_step

        def spoiled(batch, batch_idx):
            loss = training_step(batch, batch_idx)
            if batch_idx != self.micro_step or trainer.global_rank != self.rank:
                return loss
            if self.what == "gradient":
                loss.register_hook(lambda gradient: gradient * self.value)
                return loss
            constant = self.what == "value"  # a term without gradient: only the loss itself shows it
            return loss + self.value if constant else loss * self.value

        pl_module.training_step = spoiled


class Weights(pl.Callback):
    """A copy of all weights and of the optimizer's state after every optimizer step."""

    def __init__(self) -> None:
        self.after: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        state = trainer.optimizers[0].state.values()
        moments = [value.clone() for entry in state for value in entry.values()]
        self.after.append([p.detach().clone() for p in pl_module.parameters()] + moments)


def metric(folder: Path, name: str) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {row["step"]: row[name] for row in rows if name in row}


@pytest.mark.parametrize(
    ("what", "value"), [("loss", math.nan), ("loss", math.inf), ("gradient", math.nan), ("value", math.inf)]
)
def test_training_stops_before_the_update_and_names_step_source_and_examples(tmp_path, what, value):
    weights = Weights()
    run = TinyRun(tmp_path / "run", Spoil(6, what, value), NonFiniteSteps("raise"), weights)
    with pytest.raises(UserError) as error:
        run.fit()
    planned = run.data.plan[6]
    source = run.data.sources[planned.source].name
    assert "step 6: the loss or its gradient" in str(error.value)
    assert f"source {source}, examples {', '.join(map(str, planned.indices))} " in str(error.value)
    assert "trainer.on_nan=skip" in str(error.value)
    assert len(weights.after) == 6
    torch.testing.assert_close(
        list(run.module.parameters()), weights.after[-1][: _count(run)], rtol=0, atol=0
    )
    assert last_good(tmp_path / "run" / "checkpoints").step == 4


def _count(run: TinyRun) -> int:
    return len(list(run.module.parameters()))


@pytest.mark.parametrize(("what", "accumulation"), [("loss", 1), ("gradient", 2)])
def test_skip_drops_the_whole_optimizer_step_and_counts_it(tmp_path, what, accumulation):
    weights = Weights()
    spoil = Spoil(3 * accumulation, what)  # the first micro-step of step 3
    run = TinyRun(
        tmp_path / "run",
        spoil,
        NonFiniteSteps("skip"),
        weights,
        steps=6,
        accumulate_grad_batches=accumulation,
    )
    run.fit()
    after = weights.after[accumulation - 1 :: accumulation]
    torch.testing.assert_close(after[3], after[2], rtol=0, atol=0)
    assert all(not torch.equal(after[i][0], after[i - 1][0]) for i in (1, 2, 4, 5))
    assert all(tensor.isfinite().all() for tensor in after[-1])
    assert run.trainer.global_step == 6  # the plan and the schedule go on
    skipped = metric(tmp_path / "run", "train/skipped_steps")
    assert [skipped[step] for step in range(6)] == [0, 0, 0, 1, 1, 1]


def test_the_count_of_dropped_steps_survives_a_resume(tmp_path):
    TinyRun(tmp_path / "run", Spoil(3), NonFiniteSteps("skip"), steps=8).fit()
    checkpoint = tmp_path / "run" / "checkpoints" / "step-4.ckpt"
    resumed = NonFiniteSteps("skip")
    TinyRun(tmp_path / "run", resumed, steps=8).fit(checkpoint)
    assert resumed.num_skipped == 1


def test_one_rank_s_bad_loss_drops_the_step_on_all_ranks(tmp_path):
    """One that has no gradient: no sum of gradients tells the other rank."""

    def job() -> None:
        weights = Weights()
        run = TinyRun(
            tmp_path / "run", Spoil(2, "value", rank=1), NonFiniteSteps("skip"), weights, steps=4, **DDP
        )
        run.fit()
        torch.testing.assert_close(weights.after[2], weights.after[1], rtol=0, atol=0)
        torch.save(weights.after[3], tmp_path / f"weights-{run.trainer.global_rank}.pt")

    assert two_ranks(job, tmp_path) == ["", ""]
    ranks = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(ranks[0], ranks[1], rtol=0, atol=0)
    assert metric(tmp_path / "run", "train/skipped_steps")[3] == 1


def test_one_rank_s_bad_loss_is_named_on_all_ranks_with_its_own_examples(tmp_path):
    def job() -> None:
        run = TinyRun(tmp_path / "run", Spoil(2, rank=1), NonFiniteSteps(), steps=4, **DDP)
        run.fit()

    raised = two_ranks(job, tmp_path)
    run = TinyRun(tmp_path / "run", steps=4)
    run.data.setup()
    examples = run.data.plan[2].indices[4:]  # rank 1's half of the batch of 8
    for message in raised:
        assert message.startswith("UserError: step 2")
        assert f"on rank 1, micro-step 2, source {run.data.sources[run.data.plan[2].source].name}" in message
        assert f"examples {', '.join(map(str, examples))} " in message
        assert "on rank 0" not in message


def test_the_norm_is_that_of_all_gradients_together(tmp_path):
    run = TinyRun(tmp_path / "run", NonFiniteSteps(), steps=1)
    seen = {}

    class Norm(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            flat = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])
            seen["norm"] = float(flat.double().norm())

    run.trainer.callbacks.insert(0, Norm())
    run.fit()
    assert metric(tmp_path / "run", "train/grad_norm")[0] == pytest.approx(seen["norm"], rel=1e-6)
    assert float(gradient_norm(torch.nn.Linear(2, 2))) == 0


def test_an_unknown_policy_is_refused():
    with pytest.raises(UserError, match=r"trainer\.on_nan='ignore' must be raise or skip"):
        NonFiniteSteps("ignore")
