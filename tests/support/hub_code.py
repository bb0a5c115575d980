"""A model folder with code of its own, as the hub has them: for transformers 4.51, like Youtu-Embedding."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from codiemb.encoder import ModelSpec
from codiemb.encoder.remote_code import lent_names
from codiemb.encoder.spec import NativeSpec

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rope_theta": 100.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "attention_bias": False,
}
CONFIGURATION = f"""
from transformers.configuration_utils import PretrainedConfig
from transformers.onnx import OnnxConfig


class UtuConfig(PretrainedConfig):
    model_type = "utu"

    def __init__(self, vocab_size=300, interleaved=False, **sizes):
        self.vocab_size = vocab_size
        self.interleaved = interleaved
        for name, value in sizes.items():
            if name in {sorted(SIZES)}:
                setattr(self, name, value)
        super().__init__(**{{k: v for k, v in sizes.items() if k not in {sorted(SIZES)} or k[:3] == "tie"}})


class UtuOnnxConfig(OnnxConfig):
    pass
"""
MODELING = """
from typing import Optional

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_flash_attention_utils import FlashAttentionKwargs
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.pytorch_utils import find_pruneable_heads_and_indices
from transformers.utils import LossKwargs, is_torch_fx_available, logging

from .configuration_utu import UtuConfig

if is_torch_fx_available():
    raise RuntimeError("torch.fx is not asked for here")


class KwargsForCausalLM(FlashAttentionKwargs, LossKwargs): ...


class UtuRMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class UtuRotaryEmbedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.rope_init_fn = ROPE_INIT_FUNCTIONS["default"]
        inv_freq, self.attention_scaling = self.rope_init_fn(config, None)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.original_inv_freq = self.inv_freq

    def forward(self, positions):
        angles = positions[:, :, None] * self.inv_freq
        return angles.cos(), angles.sin()


class UtuAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.width, self.interleaved = config.head_dim, config.interleaved
        inner = config.num_attention_heads * self.width
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(config.hidden_size, inner, bias=False))
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.q_norm = UtuRMSNorm(self.width, config.rms_norm_eps)
        self.k_norm = UtuRMSNorm(self.width, config.rms_norm_eps)

    def turned(self, x, cos, sin):
        if self.interleaved:
            a, b = x[..., 0::2], x[..., 1::2]
        else:
            a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def forward(self, x, cos, sin, mask):
        shape = (*x.shape[:2], -1, self.width)
        q = self.q_norm(self.q_proj(x).view(shape)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(shape)).transpose(1, 2)
        v = self.v_proj(x).view(shape).transpose(1, 2)
        q, k = (self.turned(each, cos[:, None], sin[:, None]) for each in (q, k))
        scores = q @ k.transpose(2, 3) / self.width**0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None] == 0, float("-inf"))
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(*x.shape[:2], -1))


class UtuMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class UtuLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn, self.mlp = UtuAttention(config), UtuMLP(config)
        self.input_layernorm = UtuRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = UtuRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class UtuModel(PreTrainedModel):
    config_class = UtuConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(UtuLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = UtuRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = UtuRotaryEmbedding(config)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(std=0.3)

    def get_input_embeddings(self):
        return self.embed_tokens

    def forward(self, input_ids, attention_mask=None, **kwargs: Unpack[KwargsForCausalLM]):
        x = self.embed_tokens(input_ids)
        positions = torch.arange(x.shape[1], device=x.device)[None].float()
        cos, sin = self.rotary_emb(positions)
        states = [x]
        for layer in self.layers:
            x = layer(x, cos, sin, attention_mask)
            states.append(x)
        return BaseModelOutput(last_hidden_state=self.norm(x), hidden_states=tuple(states))
"""


def write_folder(
    folder: Path,
    tokenizer: Path,
    *,
    interleaved: bool = False,
    rename: Callable[[str], str] = lambda name: f"model.{name}",
    **more: Tensor,
) -> PreTrainedModel:
    """Write code, weights (under `rename`d names, `more` beside them) and tokenizer; return the model itself.

    What is returned was built by its constructor and never saved: an oracle for whatever reads the folder.
    """
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    (folder / "configuration_utu.py").write_text(CONFIGURATION)
    (folder / "modeling_utu.py").write_text(MODELING)
    classes = {"AutoConfig": "configuration_utu.UtuConfig", "AutoModel": "modeling_utu.UtuModel"}
    config = {
        "model_type": "utu",
        "architectures": ["UtuModel"],
        "auto_map": classes,
        "transformers_version": "4.51.3",
        "vocab_size": 600,
        "interleaved": interleaved,
        **SIZES,
    }
    (folder / "config.json").write_text(json.dumps(config))
    model = _built(folder)
    weights = {rename(name): weight.clone() for name, weight in model.state_dict().items()}
    save_file({**weights, **more}, folder / "model.safetensors", {"format": "pt"})
    return model


def spec(folder: Path, *, rotary: str | None = None, trusted: bool = False, **settings: object) -> ModelSpec:
    """The folder as model=youtu_embedding would have it, in its own sizes."""
    sizes = {key: value for key, value in SIZES.items() if key not in ("rope_theta", "rms_norm_eps")}
    rope = {"rope_type": "default", "rope_theta": SIZES["rope_theta"]}
    native = {"native": NativeSpec(rotary, **settings.pop("native", {}))}  # type: ignore[arg-type]
    return ModelSpec(
        name="youtu_embedding",
        path=str(folder),
        architecture={"model_type": "qwen3", **sizes, "rope_parameters": rope},
        trust_remote_code=trusted,
        max_tokens=64,
        **native,  # type: ignore[arg-type]
        **settings,  # type: ignore[arg-type]
    )


def _built(folder: Path) -> PreTrainedModel:
    torch.manual_seed(1)
    with lent_names():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)  # this file wrote the code
        model = AutoModel.from_config(config, trust_remote_code=True)
    for name, weight in model.named_parameters():
        if "norm" in name:  # not all one: a wrong order of dimensions would not show
            weight.data.uniform_(0.5, 1.5)
    return model.eval()
