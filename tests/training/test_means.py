"""Means between two lines of the loggers."""

import math
import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from codiemb.training import means as means_module
from codiemb.training.means import Means

CPU = torch.device("cpu")


def added(values: dict[str, list[float]]) -> Means:
    means = Means()
    for name, column in values.items():
        for value in column:
            means.add(name, torch.tensor(value))
    return means


def test_every_value_counts_once_and_a_line_begins_anew():
    means = added({"b": [1.0, 2.0, 6.0], "a": [5.0]})
    assert means.so_far() == {"b": 3.0, "a": 5.0}
    assert means.take(CPU) == {"b": 3.0, "a": 5.0}
    assert means.take(CPU) == means.so_far() == {}
    means.add("b", torch.tensor(7.0))
    assert means.take(CPU) == {"b": 7.0}


def test_what_is_not_finite_is_left_out_and_nothing_else_is():
    taken = added({"a": [1.0, math.nan, 3.0, math.inf], "b": [-math.inf, math.nan]}).take(CPU)
    assert taken["a"] == 2
    assert taken["b"].isnan()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sums_are_kept_in_fp32_or_better(dtype):
    means = Means()
    for _ in range(1_000):
        means.add("a", torch.ones((), dtype=dtype, requires_grad=True))  # in bf16 the sum would stop at 256
    taken = means.take(CPU)["a"]
    assert taken == 1
    assert not taken.requires_grad
    assert taken.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_loss_of_ones_own_may_log_any_scalar():
    means = Means()
    for value in (2.0, torch.tensor(3), torch.tensor([4.0]), torch.tensor(True)):
        means.add("train/loss/sts/mine/a", value)
    assert means.so_far() == {"train/loss/sts/mine/a": 2.5}
    with pytest.raises(ValueError, match=r"train/loss/sts/mine/b: only scalars can be logged, .* \[2\]"):
        means.add("train/loss/sts/mine/b", torch.zeros(2))


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        reads = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        self.count += func.overloadpacket in reads
        return func(*args, **(kwargs or {}))


def test_adding_reads_nothing_from_the_device():
    means, value = Means(), torch.tensor(2.0)
    with HostReads() as reads:
        means.add("a", value)
        means.add("a", value)
        assert reads.count == 0
        means.so_far()
    assert reads.count == 1


def test_a_checkpoint_goes_on_to_the_bit():
    draw = random.Random(0)
    values = [draw.random() for _ in range(100)]
    whole, begun, resumed = added({"a": values}), added({"a": values[:37]}), Means()
    resumed.load_state_dict(begun.state_dict(CPU))
    for value in values[37:]:
        resumed.add("a", torch.tensor(value))
    assert resumed.take(CPU) == whole.take(CPU)
    assert begun.so_far().keys() == {"a"}, "saving forgets nothing"
    nothing = Means()
    nothing.load_state_dict(Means().state_dict(CPU))
    assert nothing.take(CPU) == {}


def test_other_ranks_go_on_with_the_mean_of_those_that_saved(monkeypatch):
    """Two ranks' micro-batches before weigh as much as one rank's micro-batches after."""
    state = {"names": ["a"], "sums_Wn2": torch.tensor([[[4.0, 2.0]], [[8.0, 2.0]]])}
    means = Means()
    means.load_state_dict(state)
    means.add("a", torch.tensor(12.0))
    assert means.take(CPU) == {"a": 6.0}  # of 3 (2 and 4 of two ranks), 3 and 12
    monkeypatch.setattr(means_module, "world_size", lambda: 2)
    monkeypatch.setattr(means_module, "rank", lambda: 1)
    means.load_state_dict(state)
    assert means.so_far() == {"a": 4.0}
