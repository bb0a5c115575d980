"""Are packed embeddings and their gradients those of padded texts, for each architecture?

    python -m experiments.gpu_check.packed --device cuda --out packed.md

Tiny random models in fp32 and, on a card, under bf16 autocast, where the packed stream takes the
variable-length kernel, backward pass included. Both are compared with padded texts in fp32 on the CPU, in
transformers' own attention. A difference is that of embeddings of length 1, or of a gradient beside its norm.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from codiemb.encoder import Encoder, pack_texts
from codiemb.tables import pipe_table
from tests.support import tiny
from tests.support.paths import GOLDEN

LIMITS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (3e-2, 1e-1)}  # embeddings, gradients


def differences(encoder: Encoder, device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Of embeddings and of the gradient of all weights, packed on the device from padded on the CPU."""
    expected, expected_grad = _embed(encoder.cpu(), "cpu", torch.float32, packed=False)
    found, found_grad = _embed(encoder.to(device), device, dtype, packed=True)
    distance = float((found - expected).norm(dim=1).max())
    return distance, float((found_grad - expected_grad).norm() / expected_grad.norm())


def _embed(encoder: Encoder, device: str, dtype: torch.dtype, *, packed: bool) -> tuple[Tensor, Tensor]:
    encoder.packed = packed
    encoder.zero_grad()
    texts = encoder.tokenizer([("", text) for text in tiny.SENTENCES], 64)
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        embedding_SD = encoder(pack_texts(texts, torch.device(device))).last_SD
    weights_SD = torch.linspace(-1, 1, embedding_SD.numel()).view(embedding_SD.shape)
    (embedding_SD * weights_SD.to(device)).sum().backward()
    grads = [p.grad.flatten().float().cpu() for p in encoder.parameters() if p.grad is not None]
    return embedding_SD.detach().cpu(), torch.cat(grads)


def table(device: str) -> tuple[str, bool]:
    """One row an architecture and precision, and whether all are within their limits."""
    rows, fits = [], True
    for architecture in tiny.ARCHITECTURES:
        encoder = tiny.tiny_encoder(architecture, GOLDEN / "tokenizer").eval()
        for dtype in (torch.float32, *([torch.bfloat16] if device == "cuda" else [])):
            found = differences(encoder, device, dtype)
            good = all(value <= limit for value, limit in zip(found, LIMITS[dtype], strict=True))
            verdict = "as padded" if good else "NOT as padded"
            precision = str(dtype).removeprefix("torch.")
            rows.append((architecture, precision, verdict, *(f"{gap:.0e}" for gap in found)))
            fits &= good
    return pipe_table([("architecture", "precision", "result", "embeddings", "gradient"), *rows], 3), fits


def main() -> None:
    """Compare, write the table, exit with 1 where one is not as padded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    text, fits = table(args.device)
    args.out.write_text(text, "utf-8")
    sys.exit(0 if fits else 1)


if __name__ == "__main__":
    main()
