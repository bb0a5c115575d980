"""Attention is what `model.attention` says in every layer, alone and beside padding, or the run stops."""

import functools

import pytest
import torch

from codiemb.encoder import LoraSpec, ModelSpec, load_encoder
from codiemb.encoder.verify import verify_attention
from codiemb.errors import UserError
from tests.support import tiny

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
ENCODERS = {"bert", "albert", "electra", "nomic_bert", "deberta-v2"}
REFUSED_BIDIRECTIONAL = {  # architecture: what the message names
    "stablelm": ({}, "StableLmModel is causal: a later token does not reach"),
    "nemotron": ({"head_dim": 8}, "NemotronModel is causal"),
    "lfm2": (
        {"layer_types": ["conv", "full_attention", "conv"]},
        r"in layers\.0\.conv \(Lfm2ShortConv\), layers\.0 \(Lfm2DecoderLayer\), layers\.2\.conv .*1 more",
    ),
    "qwen3_next": (
        {
            "layer_types": ["full_attention", "linear_attention", "full_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        r"in layers\.1\.linear_attn \(Qwen3NextGatedDeltaNet\)",
    ),
    "falcon_h1": (  # every layer holds attention and a recurrence side by side
        {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_d_ssm": 64},
        r"in layers\.0\.mamba \(FalconH1Mixer\)",
    ),
    "llama4_text": (  # chunked layers stay causal beside padding only
        {
            "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
        },
        "Llama4TextModel",
    ),
}


def load(byte_level, model_type, attention, **settings):
    torch.manual_seed(0)
    architecture = {"model_type": model_type, **SMALL} | settings
    if model_type in ENCODERS:
        del architecture["num_key_value_heads"]
    return load_encoder(
        ModelSpec(tokenizer=str(byte_level), architecture=architecture, attention=attention, max_tokens=64)
    )


@pytest.mark.parametrize("model_type", REFUSED_BIDIRECTIONAL)
def test_what_stays_causal_anywhere_is_refused_as_bidirectional_by_name(byte_level, model_type):
    settings, message = REFUSED_BIDIRECTIONAL[model_type]
    with pytest.raises(UserError, match=message) as caught:
        load(byte_level, model_type, "bidirectional", **settings)
    assert "model.attention=bidirectional" in str(caught.value)


@pytest.mark.parametrize("model_type", ["stablelm", "lfm2"])
def test_and_as_causal_it_is_accepted(byte_level, model_type):
    assert not load(byte_level, model_type, "causal", **REFUSED_BIDIRECTIONAL[model_type][0]).packed


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_encoders_are_refused_as_causal_also_where_they_are_so_without_padding(byte_level, model_type):
    """transformers hands `is_causal` of the config to BERT's SDPA, which heeds it if there is no mask."""
    with pytest.raises(UserError, match=r"model\.attention=causal, but \w+Model is bidirectional"):
        load(byte_level, model_type, "causal")


def forget_is_causal(layer):
    """The layer's attention no longer hears that it is to be bidirectional."""
    forward = layer.self_attn.forward

    @functools.wraps(forward)
    def deaf(*args, **kwargs):
        return forward(*args, **kwargs | {"is_causal": None})

    layer.self_attn.forward = deaf


@pytest.mark.parametrize(
    ("rank", "causal_layers", "dtype"),
    [
        (0, (0,), "float32"),
        (0, (1, 2), "float32"),
        (0, (2,), "float32"),
        (0, (2,), "bfloat16"),
        (2, (2,), "float32"),
        (2, (0,), "bfloat16"),
    ],
)
def test_one_causal_layer_of_three_is_one_too_many(byte_level, rank, causal_layers, dtype):
    encoder = tiny.tiny_encoder("qwen3", byte_level, lora=LoraSpec(r=rank), dtype=dtype)
    verify_attention(encoder)
    for i in causal_layers:
        forget_is_causal(encoder.backbone.layers[i])
    with pytest.raises(UserError, match=rf"Qwen3Model is causal in .*layers\.{causal_layers[0]}\.self_attn"):
        verify_attention(encoder)


@pytest.mark.parametrize("scale", [1e-3, 1e-6])
def test_the_check_does_not_depend_on_the_scale_of_the_weights(byte_level, scale):
    encoder = tiny.tiny_encoder("qwen3", byte_level)
    for layer in encoder.backbone.layers:
        layer.self_attn.o_proj.weight.data.mul_(scale)
    verify_attention(encoder)
    forget_is_causal(encoder.backbone.layers[1])
    with pytest.raises(UserError, match="Qwen3Model is causal in "):
        verify_attention(encoder)


def test_the_check_leaves_nothing_behind(byte_level):
    encoder = tiny.tiny_encoder("qwen3", byte_level).train()
    verify_attention(encoder)
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())
