"""Which attention runs where, and what it is handed. The CUDA kernel is a fake; test_cuda.py has the real."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.varlen import varlen_attn

from codiemb.encoder import attention, pack_texts
from codiemb.encoder.attention import Packing, has_varlen_kernel, packed_attention
from tests.support import tiny

MODES = [
    ("youtu", "bidirectional"),
    ("youtu", "causal"),
    ("qwen3", "bidirectional"),
    ("bert", "bidirectional"),
]
TEXTS = [
    ("", "a"),
    ("", "b"),
    ("Retrieve", "How do I reset my password?"),
    ("", "余额不足，转账失败怎么办？"),
]


class VarlenOnCPU:
    """torch's kernel by its documentation, a sequence at a time; keeps the arguments of every call."""

    def __init__(self):
        self.calls = []
        self.signature = inspect.signature(varlen_attn)

    def __call__(self, *args, **kwargs):
        bound = self.signature.bind(*args, **kwargs)  # the installed torch must take them
        bound.apply_defaults()
        call = bound.arguments
        self.calls.append(call)
        query, key, value = call["query"], call["key"], call["value"]
        assert query.shape[2] == key.shape[2] == value.shape[2], "the kernel has one head width"
        assert all(x.stride(-1) == 1 for x in (query, key, value)), "the kernel reads rows of a head at once"
        grouped = query.shape[1] != key.shape[1]
        assert call.get("enable_gqa", grouped) == grouped, "it is told of groups, if it has a word for them"
        spans = torch.stack([call["cu_seq_q"][:-1], call["cu_seq_q"][1:]], dim=1).tolist()
        return torch.cat([self._attend(call, slice(*span), grouped) for span in spans])

    def _attend(self, call, span, grouped):
        query, key, value = (call[name][span].transpose(0, 1) for name in ("query", "key", "value"))
        causal = call["window_size"] == (-1, 0)
        out = F.scaled_dot_product_attention(
            query, key, value, is_causal=causal, scale=call["scale"], enable_gqa=grouped
        )
        return out.transpose(0, 1)


@pytest.fixture
def kernel(monkeypatch):
    fake = VarlenOnCPU()
    monkeypatch.setattr(attention, "varlen_attn", fake)
    monkeypatch.setattr(attention, "has_varlen_kernel", lambda *_: True)
    return fake


def embeddings_and_gradients(encoder, texts):
    encoder.zero_grad()
    rows = encoder(texts).last_SD
    (rows * torch.linspace(-1, 1, rows.numel()).view_as(rows)).sum().backward()
    return rows.detach(), [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


@pytest.mark.parametrize(("architecture", "mode"), MODES)
def test_the_varlen_kernel_gives_the_embeddings_and_gradients_of_the_runs(
    architecture, mode, byte_level, kernel, monkeypatch
):
    encoder = tiny.tiny_encoder(architecture, byte_level, attention=mode)
    texts = pack_texts(encoder.tokenizer(TEXTS, 64))
    kernel.calls.clear()
    rows, gradients = embeddings_and_gradients(encoder, texts)
    assert len(kernel.calls) == encoder.backbone.config.num_hidden_layers
    monkeypatch.undo()
    expected, expected_gradients = embeddings_and_gradients(encoder, texts)
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


def test_the_kernel_of_torch_2_11_has_grouped_heads_but_no_word_for_them(byte_level, kernel, monkeypatch):
    encoder = tiny.tiny_encoder("qwen3", byte_level)
    texts = pack_texts(encoder.tokenizer(TEXTS, 64))
    expected = encoder(texts).last_SD
    kernel.calls.clear()
    parameters = kernel.signature.parameters.values()
    kernel.signature = inspect.Signature([each for each in parameters if each.name != "enable_gqa"])
    monkeypatch.setattr(attention, "_NAMES_GROUPS", False)
    torch.testing.assert_close(encoder(texts).last_SD, expected, atol=0, rtol=0)
    assert kernel.calls[0]["query"].shape[1] > kernel.calls[0]["key"].shape[1]


def test_the_kernel_is_told_borders_longest_sequence_direction_and_scale(byte_level, kernel):
    for mode, window in (("bidirectional", (-1, -1)), ("causal", (-1, 0))):
        encoder = tiny.tiny_encoder("youtu", byte_level, attention=mode)
        texts = pack_texts(encoder.tokenizer(TEXTS, 64))
        kernel.calls.clear()
        encoder(texts)
        lengths, call = texts.sequence_lengths, kernel.calls[0]
        assert call["cu_seq_q"].dtype == torch.int32
        assert call["cu_seq_q"].tolist() == [0, *torch.tensor(lengths).cumsum(0).tolist()]
        assert call["cu_seq_k"] is call["cu_seq_q"]
        assert call["max_q"] == call["max_k"] == max(lengths)
        assert call["window_size"] == window
        assert call["scale"] == pytest.approx(16**-0.5)  # of the true width 8 + 8, not of a filled-up one


def on_device(device="cuda", dtype=torch.bfloat16, width=64):
    with FakeTensorMode():
        return torch.empty(1, 2, 5, width, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("query", "value_width", "dropout", "capability", "expected"),
    [
        (on_device(), 64, 0.0, (8, 0), True),
        (on_device(dtype=torch.float16), 64, 0.0, (9, 0), True),
        (on_device(width=192), 128, 0.0, (9, 0), True),
        (on_device(dtype=torch.float32), 64, 0.0, (9, 0), False),
        (on_device(), 64, 0.1, (9, 0), False),
        (on_device(width=512), 64, 0.0, (9, 0), False),
        (on_device(width=20), 20, 0.0, (9, 0), False),
        (on_device(), 64, 0.0, (7, 5), False),
        (on_device(device="cpu"), 64, 0.0, (9, 0), False),
    ],
)
def test_the_kernel_is_chosen_where_it_can_run(
    query, value_width, dropout, capability, expected, monkeypatch
):
    value = on_device(query.device, query.dtype, value_width)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    assert has_varlen_kernel(query, value, dropout) is expected
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    assert not has_varlen_kernel(query, value, dropout)


def attend(dtype, lengths=(3, 3, 7), *, causal=False, dropout=0.0, seed=0):
    """(output, gradients) of the packed attention on random heads, all in fp32."""
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.randn(1, 2, sum(lengths), 8, generator=generator).to(dtype) for _ in range(3)]
    heads = [x.requires_grad_() for x in heads]
    packing = Packing.of(lengths, torch.device("cpu"), causal=causal)
    out, _ = packed_attention(torch.nn.Identity(), *heads, None, packing=packing, dropout=dropout)
    gradients = torch.autograd.grad(out.float().square().sum(), heads)
    return out.float(), [gradient.float() for gradient in gradients]


@pytest.mark.parametrize("causal", [False, True])
def test_plain_products_in_half_precision_are_attention(causal, monkeypatch):
    expected, expected_gradients = attend(torch.float32, causal=causal)
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)  # would fail
    out, gradients = attend(torch.bfloat16, causal=causal)
    torch.testing.assert_close(out, expected, atol=0.03, rtol=0.02)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, atol=0.06, rtol=0.05)


def test_long_sequences_and_full_precision_do_not_keep_their_probabilities(monkeypatch):
    monkeypatch.setattr(attention, "_plain", None)  # would fail
    attend(torch.float32)
    attend(torch.bfloat16, lengths=(attention._MAX_PLAIN_TOKENS + 1,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_probabilities(dtype):
    torch.manual_seed(0)
    without, _ = attend(dtype)
    dropped = torch.stack([attend(dtype, dropout=0.5)[0] for _ in range(400)])
    assert dropped.std(dim=0).mean() > 0.1
    torch.testing.assert_close(dropped.mean(dim=0), without, atol=0.3, rtol=0)


def test_on_a_card_no_run_has_cudnn_plan_a_kernel_for_its_shape(monkeypatch):
    on_a_card, attend_dense, allowed = attention._no_plan_a_shape("cuda"), F.scaled_dot_product_attention, []

    def recorded(*args, **kwargs):
        allowed.append((torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()))
        return attend_dense(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    before, _ = torch.backends.cuda.cudnn_sdp_enabled(), attend(torch.float32)
    monkeypatch.setattr(attention, "_no_plan_a_shape", lambda _: on_a_card)
    attend(torch.float32)
    assert allowed == [(before, True)] * 2 + [(False, True)] * 2
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_under_autocast_heads_of_two_dtypes_are_cast_as_linear_layers_are():
    packing = Packing.of((2, 3), torch.device("cpu"), causal=False)
    query, key = torch.randn(2, 1, 2, 5, 8).unbind()
    value = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = packed_attention(torch.nn.Identity(), query, key, value, None, packing=packing)
    assert out.dtype == torch.bfloat16
