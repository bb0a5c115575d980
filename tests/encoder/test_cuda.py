"""What only a GPU can show: the variable-length kernel and half precision give what fp32 on CPU gives."""

import pytest
import torch

from codiemb.encoder import attention, pack_texts
from codiemb.encoder.attention import Packing
from tests.support import tiny

pytestmark = [
    pytest.mark.requires_gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="2026-11-27: needs a CUDA device, and there is none"
    ),
]
LENGTHS = (3, 3, 17, 40, 1, 128)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "key_heads", "width", "value_width"), [(4, 4, 64, 64), (8, 2, 192, 128)])
def test_the_kernel_and_its_gradients_are_those_of_dense_attention(
    causal, heads, key_heads, width, value_width
):
    torch.manual_seed(0)
    shapes = ((heads, width), (key_heads, width), (key_heads, value_width))
    inputs = [torch.randn(count, sum(LENGTHS), size) for count, size in shapes]
    grad = torch.randn(sum(LENGTHS), heads, value_width)

    def run(function, device, dtype, *arguments):
        leaves = [x.to(device, dtype).requires_grad_() for x in inputs]
        packing = Packing.of(LENGTHS, torch.device(device), causal=causal)
        out = function(*leaves, packing, width**-0.5, *arguments)
        return [x.float().cpu() for x in (out, *torch.autograd.grad(out, leaves, grad.to(device, dtype)))]

    expected = run(attention._by_runs, "cpu", torch.float32, 0.0)
    for found, exact in zip(run(attention._varlen, "cuda", torch.bfloat16), expected, strict=True):
        assert (found - exact).norm() <= 2e-2 * exact.norm()


@pytest.mark.parametrize("architecture", ["youtu", "bert"])
def test_embeddings_in_bf16_are_those_of_fp32_on_cpu(architecture, byte_level):
    encoder = tiny.tiny_encoder(architecture, byte_level).eval()
    texts = encoder.tokenizer([("", text) for text in tiny.SENTENCES], 64)
    expected = encoder(pack_texts(texts)).last_SD
    encoder.cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = encoder(pack_texts(texts, torch.device("cuda"))).last_SD
    assert found.dtype == torch.float32
    assert (found.cpu() * expected).sum(dim=1).min() > 0.999
