"""The vocabulary loss: equal to cross-entropy in float64, a chunk of logits at a time, on unequal ranks."""

import math
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from codiemb.batch import TokenStates
from codiemb.losses import TokenPrediction, WeightedSum
from tests.support.forks import METHOD


def make_states(
    num_tokens: int,
    *,
    dim: int = 8,
    vocabulary: int = 30,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    bias: bool = True,
) -> TokenStates:
    generator = torch.Generator().manual_seed(seed)
    return TokenStates(
        torch.randn(num_tokens, dim, generator=generator, dtype=torch.float64).to(dtype),
        torch.randint(vocabulary, (num_tokens,), generator=generator),
        torch.randn(vocabulary, dim, generator=generator, dtype=torch.float64).to(dtype),
        torch.randn(vocabulary, generator=generator, dtype=torch.float64).to(dtype) if bias else None,
        float(num_tokens),
    )


def value_and_gradients(loss, batch: TokenStates) -> list[torch.Tensor]:
    """The scalar, and its gradients with respect to states, head and bias."""
    leaves = {
        name: getattr(batch, name).detach().clone().requires_grad_()
        for name in ("state_PD", "head_VD", "bias_V")
        if getattr(batch, name) is not None
    }
    with torch.autograd.set_detect_anomaly(True):
        value = loss(batch._replace(**leaves))
        (3 * value).backward()  # the gradient computed ahead must still be scaled by what comes behind
    return [value.detach(), *(leaf.grad / 3 for leaf in leaves.values())]


def oracle(batch: TokenStates) -> torch.Tensor:
    logit_PV = batch.state_PD @ batch.head_VD.T
    return cross_entropy(logit_PV if batch.bias_V is None else logit_PV + batch.bias_V, batch.target_P)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99), st.booleans())
def test_value_and_gradient_are_those_of_the_cross_entropy_of_all_logits(num_tokens, chunk_rows, seed, bias):
    batch = make_states(num_tokens, seed=seed, bias=bias)
    loss = TokenPrediction(chunk_rows)
    expected = value_and_gradients(oracle, batch)
    for one, other in zip(value_and_gradients(lambda b: loss(b).value, batch), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_head_tied_to_the_embedding_gets_the_gradient_of_both_its_uses():
    """The states are computed from the very matrix that they are compared with."""
    batch = make_states(20)
    gradients = []
    for loss in (oracle, lambda b: TokenPrediction(7)(b).value):
        weight_VD = batch.head_VD.clone().requires_grad_()
        state_PD = torch.tanh(weight_VD[batch.target_P.flip(0)])
        loss(batch._replace(state_PD=state_PD, head_VD=weight_VD)).backward()
        gradients.append(weight_VD.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["state_PD", "head_VD"])
def test_a_frozen_side_gets_no_gradient_and_the_other_its_own(frozen):
    batch = make_states(20, bias=False)
    names = ("state_PD", "head_VD")
    leaves = {name: getattr(batch, name).clone().requires_grad_(name != frozen) for name in names}
    TokenPrediction(6)(batch._replace(**leaves)).value.backward()
    _, *expected = value_and_gradients(oracle, batch)
    assert leaves.pop(frozen).grad is None
    ((name, leaf),) = leaves.items()
    torch.testing.assert_close(leaf.grad, expected[names.index(name)], rtol=1e-12, atol=1e-12)


def test_without_a_target_the_loss_is_a_zero_with_a_graph():
    value, states, *head = value_and_gradients(lambda b: TokenPrediction()(b).value, make_states(0))
    assert value == 0
    assert states.shape == (0, 8)
    assert not any(gradient.any() for gradient in head)


def test_half_precision_loses_one_percent_of_the_gradient_and_not_more():
    batch = make_states(600, dim=64, vocabulary=500, dtype=torch.bfloat16, bias=False)
    batch = batch._replace(head_VD=batch.head_VD / 4)
    double = batch._replace(state_PD=batch.state_PD.double(), head_VD=batch.head_VD.double())
    exact = value_and_gradients(oracle, double)
    half = value_and_gradients(lambda b: TokenPrediction(64)(b).value, batch)
    assert half[0].dtype == torch.float32
    for one, other in zip(half, exact, strict=True):
        assert (one.double() - other).norm() < 0.01 * other.norm()


def test_under_autocast_the_product_runs_in_its_type_and_the_softmax_in_fp32():
    batch = make_states(50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = TokenPrediction()(batch).value
    exact = TokenPrediction()(batch).value
    rounded = batch._replace(state_PD=batch.state_PD.bfloat16(), head_VD=batch.head_VD.bfloat16())
    assert low.dtype == torch.float32
    assert low == TokenPrediction()(rounded).value != exact


# Memory


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if torch.is_tensor(tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def largest_tensor(loss, batch: TokenStates) -> int:
    with Largest() as largest:
        value_and_gradients(loss, batch)
    return largest.elements


def test_no_tensor_is_larger_than_a_chunk_of_logits_or_the_head():
    batch = make_states(400, dim=8, vocabulary=1000, dtype=torch.float32)
    assert largest_tensor(oracle, batch) == 400 * 1000  # the test can see it
    assert largest_tensor(lambda b: TokenPrediction(16)(b).value, batch) == 16 * 1000
    assert largest_tensor(lambda b: TokenPrediction(4)(b).value, batch) == 1000 * 8


# Logs


def test_logs_are_perplexity_bits_accuracy_and_the_number_of_targets():
    batch = make_states(30)
    logit_PV = batch.state_PD @ batch.head_VD.T + batch.bias_V
    entropy = cross_entropy(logit_PV, batch.target_P)
    logs = TokenPrediction(7)(batch).logs
    assert logs["perplexity"].item() == pytest.approx(math.exp(entropy))
    assert logs["bits_per_token"].item() == pytest.approx(entropy.item() / math.log(2))
    right = (logit_PV.argmax(1) == batch.target_P).double().mean()
    assert logs["accuracy"].item() == pytest.approx(right.item())
    assert logs["num_targets"].item() == 30


def test_a_head_of_zeros_guesses_at_random_and_is_not_called_accurate():
    batch = make_states(300, vocabulary=30, bias=False)
    output = TokenPrediction()(batch._replace(head_VD=torch.zeros_like(batch.head_VD)))
    assert output.value.item() == pytest.approx(math.log(30))
    assert output.logs["accuracy"] < 0.2


# Ranks and accumulation: unequal numbers of predicted tokens, the update of one process

COUNTS = [[5, 0, 11], [2, 9, 4]]  # by rank, then by micro-batch
NUM_TOKENS = 31


def micro_batch(rank: int, part: int) -> TokenStates:
    """Consecutive tokens of the global batch, rank by rank within a micro-step."""
    whole = make_states(NUM_TOKENS)
    start = sum(COUNTS[r][p] for p in range(3) for r in range(2) if (p, r) < (part, rank))
    rows = slice(start, start + COUNTS[rank][part])
    return whole._replace(
        state_PD=whole.state_PD[rows], target_P=whole.target_P[rows], mean_targets=sum(COUNTS[rank]) / 3
    )


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/init",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    loss = WeightedSum({"tokens": (1.0, TokenPrediction(3))})
    results = []
    for part in range(3):
        gradients = value_and_gradients(lambda b: loss(b).value, micro_batch(rank, part))
        results.append((*gradients, loss(micro_batch(rank, part)).logs))
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_mean_over_ranks_and_micro_batches_is_the_loss_of_one_process(tmp_path):
    mp.start_processes(run_rank, args=(str(tmp_path),), nprocs=2, start_method=METHOD)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    expected = value_and_gradients(oracle, make_states(NUM_TOKENS))
    parts = [ranks[rank][part] for part in range(3) for rank in range(2)]
    value, head, bias = (sum(part[k] for part in parts) / 6 for k in (0, 2, 3))
    states = torch.cat([part[1] for part in parts]) / 6
    for one, other in zip((value, states, head, bias), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    # per token: a mean of the six means would be another number
    means = [oracle(micro_batch(r, p)) for p in range(3) for r in range(2) if COUNTS[r][p]]
    assert abs(sum(means) / len(means) - value) > 1e-3
    for part in range(3):
        logs = [{key: rank[part][-1][key] for key in rank[part][-1] if "/" in key} for rank in ranks]
        assert logs[0]["tokens/num_targets"] == COUNTS[0][part] + COUNTS[1][part]
        torch.testing.assert_close(logs[0], logs[1])  # over all ranks
