"""What the formulas start from: model and stages of conf, the card as it was measured, and assumptions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from torch import nn
from transformers import AutoConfig, AutoModel

from codiemb.config.losses import build_losses
from codiemb.config.schema import TrainConfig, register
from codiemb.config.typed import typed_train
from codiemb.losses.wrappers import WeightedSum

ROOT = Path(__file__).parents[2]
STAGES = ("pretrain", "align", "finetune")
GIB = 2**30


class Assumption(NamedTuple):
    """A number that neither conf nor a run of ours gives."""

    what: str
    value: float
    unit: str
    source: str


_SHEET = "H100 SXM, NVIDIA's data sheet"
_NCCL = "NCCL, src/graph/tuning.cc, tree, LL"
_RAGGED = "experiments/benchmarks/gpu_step.py, ragged texts"
CARD_MEMORY = Assumption("memory of a card", 80 * GIB, "GiB", _SHEET)
FP32_RATE = Assumption("rate in fp32, of the losses", 67e12, "TFLOP/s", _SHEET)
NVLINK = Assumption("between cards of a host", 450e9, "GB/s", f"{_SHEET}: 900 GB/s in both directions")
NETWORK = Assumption("between hosts, for each card", 50e9, "GB/s", "DGX H100 data sheet: 400 Gb/s")
CARDS_PER_HOST = Assumption("cards of a host", 8, "", "DGX H100 data sheet")
TREE_BASE = Assumption("latency of a small all-reduce", 4.4e-6, "µs", _NCCL)
TREE_NVLINK = Assumption("and twice for each card of a host", 0.52e-6 * 1.8, "µs", _NCCL)
TREE_NETWORK = Assumption("and twice for each doubling of hosts", 5.0e-6, "µs", _NCCL)
BUCKET = Assumption("DeepSpeed's bucket", 5e8, "numbers", "its default of reduce_bucket_size")
OPEN_FILES = Assumption("files a process may have open", 1024, "", "Linux' usual soft limit")
MEDIAN_TOKENS = Assumption("median length of a text", 300, "tokens", _RAGGED)
SPREAD = Assumption("sigma of its log-normal", 1.1, "", _RAGGED)
ASSUMPTIONS = (
    *(CARD_MEMORY, FP32_RATE, NVLINK, NETWORK, CARDS_PER_HOST, TREE_BASE, TREE_NVLINK, TREE_NETWORK),
    *(BUCKET, OPEN_FILES, MEDIAN_TOKENS, SPREAD),
)


@dataclass(frozen=True)
class Sizes:
    """A model of the Youtu architecture, in numbers (not bytes)."""

    layers: int
    width: int
    intermediate: int
    heads: int
    query_width: int  # of a head, and of its key
    value_width: int
    rotary_width: int  # of the part of a query that is rotated
    ranks: int  # of the low-rank queries, and of keys and values, together
    vocabulary: int
    parameters: int
    matrices: int  # parameters that tokens are multiplied with, which autocast casts
    layer: int  # parameters of one transformer layer

    @classmethod
    def of(cls, backbone: nn.Module) -> "Sizes":
        """As the model has them; its weights may lie on the device `meta`."""
        config: Any = backbone.config
        tables = {id(m.weight) for m in backbone.modules() if isinstance(m, nn.Embedding)}
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=config.num_attention_heads,
            query_width=config.qk_nope_head_dim + config.qk_rope_head_dim,
            value_width=config.v_head_dim,
            rotary_width=config.qk_rope_head_dim,
            ranks=config.q_lora_rank + config.kv_lora_rank,
            vocabulary=config.vocab_size,
            parameters=sum(p.numel() for p in backbone.parameters()),
            matrices=sum(p.numel() for p in backbone.parameters() if p.dim() == 2 and id(p) not in tables),
            layer=sum(p.numel() for p in backbone.layers[0].parameters()),
        )


def backbone(architecture: Mapping[str, Any]) -> nn.Module:
    """The model without its weights."""
    with torch.device("meta"):
        return AutoModel.from_config(AutoConfig.for_model(**architecture))


def stage(name: str, *overrides: str) -> TrainConfig:
    """Youtu2b's stage as conf has it (conf/experiment/youtu2b, which chooses the file of conf/stage)."""
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return typed_train(compose("train", [f"experiment=youtu2b/{name}", "run_dir=unused", *overrides]))


def losses(cfg: TrainConfig) -> dict[str, WeightedSum]:
    """By task."""
    return build_losses(cfg.losses, has_middle_layer=True)


class Measured(NamedTuple):
    """The card of experiments/benchmarks/gpu_step.md."""

    card: str
    rate: float  # of a square bf16 product, flops a second
    rows: dict[tuple[str, str, str, int], tuple[float, float]]  # see `share`; share and peak GiB

    def share(self, way: str) -> float:
        """Of the matmul rate, full fine-tuning of about 8,192 tokens of ragged texts: packed or chunked."""
        return next(v[0] for k, v in self.rows.items() if k[:3] == ("full", "ragged", way))


def measured(page: Path = ROOT / "experiments/benchmarks/gpu_step.md") -> Measured:
    """The numbers on the page, by (training, texts, encoding, tokens a step); without those out of memory."""
    text = page.read_text("utf-8")
    found = re.search(r"([^.]*), matmul rate (\d+) TFLOP/s", " ".join(text.split()))
    assert found is not None, f"{page} names no matmul rate"
    rows = {}
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[-1].endswith("GiB"):
            key = (*cells[:3], int(cells[3].replace(",", "")))
            rows[key] = float(cells[6].rstrip("%")) / 100, float(cells[7].removesuffix(" GiB"))
    return Measured(found[1].strip(), float(found[2]) * 1e12, rows)
