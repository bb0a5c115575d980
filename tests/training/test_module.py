"""The Lightning module beside the trainer's options."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from codiemb.callbacks import NonFiniteSteps, ProgressBar, progress
from codiemb.encoder.head import LanguageHead
from tests.support.resumed import lines
from tests.support.tiny_run import DDP, KNOWN_WARNINGS, TinyRun, two_ranks

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS]


def test_gradients_are_clipped_in_mixed_precision_beside_the_fused_optimizer_of_the_default_config(tmp_path):
    run = TinyRun(tmp_path / "run", steps=2, precision="bf16-mixed")
    run.module._optimizer = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    norms = []
    clip = run.module.clip_gradients

    def clip_and_measure(*args, **kwargs):
        clip(*args, **kwargs)
        gradients = [p.grad for p in run.module.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients))

    run.module.clip_gradients = clip_and_measure
    run.fit()
    assert run.trainer.global_step == 2
    assert len(norms) == 2
    torch.testing.assert_close(torch.stack(norms), torch.ones(2), atol=1e-3, rtol=0)


def test_a_head_has_a_learning_rate_of_its_own_and_every_parameter_one_group(tmp_path):
    module = TinyRun(tmp_path / "run").module
    module._trainer = SimpleNamespace(datamodule=None, estimated_stepping_batches=10)
    module.head = LanguageHead(torch.zeros(5, 4), torch.zeros(5))
    module._head_learning_rate = 0.5
    optimizer = module.configure_optimizers()["optimizer"]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 0.5]
    encoder, head = (set(map(id, group["params"])) for group in optimizer.param_groups)
    assert head == set(map(id, module.head.parameters()))
    assert encoder | head == {id(p) for p in module.parameters() if p.requires_grad}


# Lines of several steps
class Measured(pl.Callback):
    """Every micro-batch's loss and terms, and every step's gradient norm, as a hook sees them; to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer, pl_module) -> None:
        for task, loss in pl_module.losses.items():
            loss.register_forward_hook(partial(self.hook, f"train/loss/{task}"))

    def hook(self, name, module, inputs, output) -> None:
        logs = {f"{name}/{key}": float(value) for key, value in output.logs.items()}
        self.rows.append({name: float(output.value.detach()), **logs})

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.rows[-1]["train/grad_norm"] = float(torch.nn.utils.get_total_norm(gradients))

    def on_train_end(self, trainer, pl_module) -> None:
        path = self.path.with_name(f"{self.path.name}-{trainer.global_rank}.json")
        path.write_text(json.dumps(self.rows), "utf-8")


def means_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    columns = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    return {name: math.fsum(column) / len(column) for name, column in columns.items()}


@pytest.mark.parametrize(("every", "accumulation"), [(1, 1), (1, 4), (3, 1), (3, 2)])
def test_a_line_has_the_means_of_all_micro_batches_since_the_line_before_it(tmp_path, every, accumulation):
    options = {"steps": 6, "log_every_n_steps": every, "accumulate_grad_batches": accumulation}
    measured = Measured(tmp_path / "measured")
    TinyRun(tmp_path / "run", measured, NonFiniteSteps(), **options).fit()
    assert_means(lines(tmp_path / "run"), [measured.rows], every * accumulation)
    assert [line["step"] for line in lines(tmp_path / "run")] == [*range(every - 1, 6, every)]


def test_a_line_has_the_means_of_both_ranks(tmp_path):
    measured = Measured(tmp_path / "measured")
    options = {"steps": 4, "log_every_n_steps": 2, "accumulate_grad_batches": 2}
    run = TinyRun(tmp_path / "run", measured, NonFiniteSteps(), **options, **DDP)
    assert two_ranks(run.fit, tmp_path) == ["", ""]
    ranks = [json.loads((tmp_path / f"measured-{rank}.json").read_text("utf-8")) for rank in range(2)]
    assert ranks[0] != ranks[1]
    assert_means(lines(tmp_path / "run"), ranks, micro_batches=4)


def assert_means(found: list[dict], ranks: list[list[dict[str, float]]], micro_batches: int) -> None:
    assert len(found) == len(ranks[0]) // micro_batches
    for i, line in enumerate(found):
        window = slice(i * micro_batches, (i + 1) * micro_batches)
        expected = means_of([row for rows in ranks for row in rows[window]])
        assert {k: v for k, v in line.items() if k.startswith("train/")} == pytest.approx(expected, rel=1e-5)
    assert any("train/loss/ir/accuracy@1" in line for line in found)


def test_a_dropped_step_does_not_hide_the_others_of_its_line(tmp_path):
    class Spoil(pl.Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            for loss in pl_module.losses.values():
                loss.register_forward_hook(partial(self.spoil, trainer))

        def spoil(self, trainer, module, inputs, output):
            return output._replace(value=output.value * math.nan) if trainer.global_step == 1 else None

    measured = Measured(tmp_path / "measured")  # after Spoil: it sees what the module sees
    TinyRun(tmp_path / "run", Spoil(), measured, NonFiniteSteps("skip"), steps=4, log_every_n_steps=4).fit()
    (line,) = lines(tmp_path / "run")
    kept = [{k: v for k, v in row.items() if math.isfinite(v)} for row in measured.rows]
    expected = means_of(kept) | {"train/skipped_steps": 1.0}
    assert {k: v for k, v in line.items() if k.startswith("train/")} == pytest.approx(expected, rel=1e-5)


def test_the_progress_bar_shows_the_mean_since_the_last_line(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    caplog.set_level(logging.INFO)

    class Bar(ProgressBar):
        shown: list[dict]

        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            super().on_train_batch_end(trainer, pl_module, *args)
            self.shown.append(self.get_metrics(trainer, pl_module))

    bar, measured = Bar(), Measured(tmp_path / "measured")
    bar.shown = []
    run = TinyRun(tmp_path / "run", measured, steps=8, log_every_n_steps=3)
    run.trainer.callbacks.insert(0, bar)
    bar.setup(run.trainer, run.module, "fit")
    run.fit()
    seen: dict[str, float] = {}
    for i, shown in enumerate(bar.shown):
        so_far = means_of(measured.rows[i // 3 * 3 : i + 1])
        seen |= {
            f"loss/{task}": so_far[f"train/loss/{task}"]
            for task in ("ir", "sts")
            if f"train/loss/{task}" in so_far
        }
        assert {k: v for k, v in shown.items() if k.startswith("loss/")} == pytest.approx(seen, rel=1e-5)
    said = [record.message for record in caplog.records if record.name == progress.__name__]
    assert len(said) == 8  # no terminal here: lines instead of a bar
    assert said[-1].startswith("batch 8 of 8, 0:00 left: ")
    assert f"loss/sts {bar.shown[-1]['loss/sts']:,.4g}" in said[-1]
    assert "\r" not in "".join(capsys.readouterr())
