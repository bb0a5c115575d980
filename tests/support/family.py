"""A family of exports: a base and checkpoints that were trained from it, as far as weights can tell."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from codiemb.encoder import PromptSpec
from codiemb.export import export_sentence_transformer
from tests.support import tiny

INSTRUCTION = "Retrieve documents that answer the question"
NUM_CHILDREN = 3


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, of one file or several."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def export_family(folder: Path, tokenizer: Path, architecture: str, seed: int = 0) -> Path:
    """`base` and `child0`, `child1`, ... in `folder`: the base plus noise, more of it child by child."""
    encoder = tiny.tiny_encoder(
        architecture,
        tokenizer,
        pooling="mean",
        prompt=PromptSpec("Instruct: {instruction}\nQuery: ", "文档："),
    )
    generator = torch.Generator().manual_seed(seed)
    for number in range(-1, NUM_CHILDREN):
        name = "base" if number < 0 else f"child{number}"
        noise = {
            key: 0.02 * (number + 1) * torch.randn(value.shape, generator=generator)
            for key, value in encoder.backbone.state_dict().items()
            if value.is_floating_point()
        }
        for key, value in encoder.backbone.state_dict().items():
            value += noise.get(key, 0)
        export_sentence_transformer(
            encoder, folder / name, query_instruction=INSTRUCTION, instructions={"named": "Similar text"}
        )
        for key, value in encoder.backbone.state_dict().items():
            value -= noise.get(key, 0)
    return folder
