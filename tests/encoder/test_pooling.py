"""Pooling against a loop over sequences in float64."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.encoder.pooling import PoolingMode, pool


def oracle(hidden_TD, lengths, prompts, mode):
    rows, start = [], 0
    for length, prompt in zip(lengths, prompts, strict=True):
        tokens = [hidden_TD[start + i].double() for i in range(length)]
        start += length
        if mode == "cls":
            rows.append(tokens[0])
        elif mode == "last_token":
            rows.append(tokens[-1])
        else:
            rows.append(sum(tokens[prompt:]) / (length - prompt))
    return torch.stack(rows)


@st.composite
def layouts(draw):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    return lengths, [draw(st.integers(0, length - 1)) for length in lengths]


@pytest.mark.parametrize("mode", get_args(PoolingMode))
@settings(max_examples=60, deadline=None)
@given(layout=layouts(), seed=st.integers(0, 1000))
def test_pooling_equals_a_loop_in_float64(mode, layout, seed):
    lengths, prompts = layout
    hidden_TD = torch.randn(sum(lengths), 5, generator=torch.Generator().manual_seed(seed))
    pooled = pool(hidden_TD, torch.tensor(lengths), torch.tensor(prompts), mode)
    expected = oracle(hidden_TD, lengths, prompts, mode)
    torch.testing.assert_close(pooled.double(), expected, atol=1e-6, rtol=1e-5)


def test_the_gradient_of_the_mean_reaches_text_tokens_equally_and_prompt_tokens_not_at_all():
    hidden_TD = torch.randn(7, 3, requires_grad=True)
    pool(hidden_TD, torch.tensor([4, 3]), torch.tensor([1, 0]), "mean").sum().backward()
    expected = torch.tensor([0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3])
    torch.testing.assert_close(hidden_TD.grad, expected[:, None].expand(7, 3))


def test_bfloat16_states_are_averaged_in_float32():
    """In bf16, 256 + 1 is 256: a sum kept in it stops growing and the mean of 4,096 ones is 0.06."""
    hidden_TD = torch.full((4096, 2), 1.01, dtype=torch.bfloat16)
    pooled = pool(hidden_TD, torch.tensor([4096]), torch.tensor([0]), "mean")
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, hidden_TD[:1].float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", get_args(PoolingMode))
def test_pooling_returns_float32_for_half_precision_states(mode):
    pooled = pool(torch.ones(3, 2, dtype=torch.float16), torch.tensor([3]), torch.tensor([1]), mode)
    assert pooled.dtype == torch.float32
