"""The kernels used on CPU give what torch's own functions are defined to give."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from codiemb.encoder import cpu_kernels, pack_texts
from codiemb.encoder.cpu_kernels import dropout, faster_on_cpu, linear, use_cpu_kernels
from tests.support import tiny

CPU = torch.device("cpu")
MANY = 1_200  # rows, enough for the convolution


@pytest.fixture
def convolutions(monkeypatch):
    calls, conv2d = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args: (calls.append(args[1].shape), conv2d(*args))[1])
    return calls


@settings(max_examples=20, deadline=None)
@given(
    rows=st.sampled_from([(1, MANY), (1_024,), (3, 401), (1_025, 1)]),
    width_in=st.integers(64, 130),
    width_out=st.integers(64, 130),
    has_bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_linear_and_its_gradients_are_those_of_the_formula_in_float64(
    rows, width_in, width_out, has_bias, seed
):
    torch.manual_seed(seed)
    x, weight = torch.randn(*rows, width_in), torch.randn(width_out, width_in)
    arguments = [x, weight, *([torch.randn(width_out)] if has_bias else [])]
    grad = torch.randn(*rows, width_out)

    def formula(x, weight, *bias):
        return x @ weight.mT + sum(bias)

    def with_gradients(function, dtype):
        leaves = [argument.detach().to(dtype).requires_grad_() for argument in arguments]
        output = function(*leaves)
        return output, *torch.autograd.grad(output, leaves, grad.to(dtype))

    found, expected = with_gradients(linear, torch.float32), with_gradients(formula, torch.float64)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == torch.float32
        assert f.shape == e.shape
        assert (f - e).norm() <= 2e-6 * e.norm()


def test_only_many_rows_of_wide_fp32_products_are_convolutions(convolutions):
    weight = torch.randn(64, 64)
    assert linear(torch.randn(MANY, 64), weight).is_contiguous()
    assert convolutions == [(64, 64, 1, 1)]
    linear(torch.randn(1_023, 64), weight)
    linear(torch.randn(MANY, 63), torch.randn(64, 63))
    linear(torch.randn(MANY, 64).double(), weight.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(MANY, 64), weight).dtype == torch.bfloat16
    assert len(convolutions) == 1


def test_a_model_gets_them_inside_the_context_and_only_there(convolutions):
    layer, x = nn.Linear(64, 64), torch.randn(MANY, 64)
    outside = layer(x)
    assert not convolutions
    with faster_on_cpu():
        inside = layer(x)
    assert len(convolutions) == 1
    assert torch.allclose(inside, outside, atol=1e-6)
    layer(x)
    assert len(convolutions) == 1


def test_a_forward_pass_that_fails_leaves_the_context_behind(convolutions):
    layer = nn.Embedding(4, 64)  # a layer whose own pass fails, so that the next product shows the state
    use_cpu_kernels(layer)
    with pytest.raises(IndexError):
        layer(torch.tensor([5]))
    torch.nn.functional.linear(torch.randn(MANY, 64), torch.randn(64, 64))
    assert not convolutions


def test_an_encoder_embeds_long_streams_as_before(byte_level, convolutions, monkeypatch):
    encoder = tiny.tiny_encoder("bert", byte_level).eval()
    use_cpu_kernels(encoder.backbone)
    texts = pack_texts(encoder.tokenizer([("", "text " * 40)] * 60, 64))
    assert len(texts.input_ids_T) >= MANY
    monkeypatch.setattr(cpu_kernels, "_MIN_WIDTH", 1)
    found = encoder(texts).last_SD
    assert convolutions
    convolutions.clear()
    monkeypatch.setattr(cpu_kernels, "_MIN_TOKENS", 10**9)
    expected = encoder(texts).last_SD
    assert not convolutions
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.937])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.rand(1_000_003) + 1
    y = dropout(x, p)
    kept = y != 0
    deviation = (p * (1 - p) / len(x)) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < 5 * deviation
    # the share that is kept, to 2^-16, is what it is scaled by
    assert torch.allclose(y[kept], x[kept] / (1 - p), rtol=2e-4 if p > 0.9 else 2e-5)
    # neighbours come from one draw: their masks must not tell of each other
    for apart in (1, 2, 3, 4):
        both = (kept[apart:] & kept[:-apart]).double().mean()
        assert abs(both - (1 - p) ** 2) < 5 * ((1 - p) ** 2 / len(x)) ** 0.5


def test_dropout_is_a_function_of_the_seed():
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(dropout(torch.ones(1_001), 0.3))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_what_dropout_dropped_gets_no_gradient():
    x = torch.randn(7, 300, requires_grad=True)
    y = dropout(x, 0.25)
    (grad,) = torch.autograd.grad(y, x, torch.full_like(y, 3.0))
    assert torch.equal(grad, torch.where(y != 0, torch.tensor(4.0), torch.tensor(0.0)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dropout_keeps_the_dtype(dtype):
    assert dropout(torch.ones(9, dtype=dtype), 0.5).dtype == dtype


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1e-9, True), (0.4, False)])
def test_dropout_that_drops_nothing_returns_its_input(p, training):
    x = torch.randn(50)
    assert torch.equal(dropout(x, p, training), x)


def test_dropout_of_everything_and_in_place_is_torchs():
    assert not dropout(torch.ones(5), 1.0).any()
    x = torch.ones(1_000)
    assert dropout(x, 0.5, inplace=True) is x
    assert 300 < x.count_nonzero() < 700
    with pytest.raises(ValueError, match="probability"):
        dropout(x, 1.5)
