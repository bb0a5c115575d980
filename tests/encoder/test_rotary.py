"""Rotary scaling that depends on length depends on the text's own length, whatever lies beside it."""

import copy

import pytest
import torch
import torch.nn.functional as F

from codiemb.encoder import LoraSpec, ModelSpec, load_encoder, pack_texts
from codiemb.encoder.rotary import RotaryPerText, rotary_per_text
from tests.support import tiny

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.0, 1.5, 1.0],
    "long_factor": [4.0, 8.0, 8.0, 16.0],
    "factor": 8.0,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
KINDS = {
    "llama": {"model_type": "llama", "rope_parameters": LONG},
    "phi3": {
        "model_type": "phi3",
        "original_max_position_embeddings": 16,
        "rope_parameters": LONG,
    },
    "gemma3, a kind for each layer": {
        "model_type": "gemma3_text",
        "head_dim": 8,
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {
            "full_attention": LONG,
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    },
    "dynamic": {"model_type": "llama", "rope_parameters": DYNAMIC, "max_position_embeddings": 16},
}
LENGTHS = (9, 16, 3, 40, 17, 25, 100, 40)  # the first chunk and the first rank hold short ones only


def load(byte_level, kind, attention="causal", **settings):
    torch.manual_seed(0)
    return load_encoder(
        ModelSpec(
            tokenizer=str(byte_level),
            architecture=SMALL | KINDS[kind],
            attention=attention,
            max_tokens=100,
            **settings,
        )
    )


def texts():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randint(10, 250, (length,), generator=generator).tolist(), 0) for length in LENGTHS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
@pytest.mark.parametrize("packed", [True, False])
def test_long_mates_do_not_change_a_text_nor_short_ones_a_long_text(byte_level, kind, attention, packed):
    encoder = load(byte_level, kind, attention).eval()
    assert encoder.packed
    encoder.packed = packed
    with torch.no_grad():
        alone = torch.cat([encoder(pack_texts([text])).last_SD for text in texts()])
        together = encoder(pack_texts(texts())).last_SD
        turned = encoder(pack_texts(texts()[::-1])).last_SD.flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_embedding_that_transformers_gives_it_alone(byte_level, kind):
    encoder = load(byte_level, kind).eval()
    with torch.no_grad():
        rows = encoder(pack_texts(texts())).last_SD
        states = [
            tiny.untouched(encoder)(torch.tensor([ids])).last_hidden_state[0].mean(0) for ids, _ in texts()
        ]
    torch.testing.assert_close(rows, F.normalize(torch.stack(states), dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [LoraSpec(), LoraSpec(r=2)], ids=["full", "lora"])
def test_chunks_and_ranks_have_the_gradient_of_the_whole_batch(byte_level, kind, lora):
    """Two ranks are two halves of the batch, whose gradients add up. The tolerance is that of fp32.

    transformers computes rotary embeddings and some norms in fp32 whatever the weights are in.
    """
    encoder = load(byte_level, kind, lora=lora).eval().double()
    weight_SD = torch.randn(len(LENGTHS), 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradient(*parts: slice, budget: int | None = None) -> torch.Tensor:
        model = copy.deepcopy(encoder)
        model.max_tokens_per_chunk = budget
        for part in parts:
            (model(pack_texts(texts()[part])).last_SD * weight_SD[part]).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(slice(None))
    assert whole.abs().max() > 0
    torch.testing.assert_close(gradient(slice(None), budget=100), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient(slice(0, 3), slice(3, None)), whole, atol=1e-6, rtol=1e-5)


def test_other_kinds_of_scaling_are_left_alone(byte_level):
    assert not rotary_per_text(tiny.tiny_encoder("qwen3", byte_level).backbone)


def test_a_wrapped_model_has_the_same_weights_and_is_wrapped_once(byte_level):
    encoder = load(byte_level, "llama")
    assert encoder.backbone.state_dict().keys() == tiny.untouched(encoder).state_dict().keys()
    assert len(rotary_per_text(encoder.backbone)) == 1
    assert not isinstance(encoder.backbone.rotary_emb.rotary, RotaryPerText)


def test_code_of_unknown_make_takes_texts_up_to_its_border_only(byte_level, monkeypatch, caplog):
    """As a model from the hub whose rotary embedding says nothing about itself."""
    monkeypatch.setattr("codiemb.encoder.rotary._kind", lambda module: None)
    encoder = load(byte_level, "llama")
    assert encoder.max_tokens == encoder.tokenizer.max_positions == 16
    assert "texts end at 16 tokens" in caplog.text
