"""A model whose attention is not what the config says stops the run; what cannot run packed runs padded."""

import logging

import pytest
import torch

from codiemb.encoder import ModelSpec, backbone, load_encoder, pack_texts
from codiemb.encoder.verify import packing_problem, padding_reason, verify_attention
from codiemb.errors import UserError
from tests.support import tiny

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
LIMITED = {  # name: (architecture, what the warning says)
    "gemma2": ({"model_type": "gemma2", **SMALL, "sliding_window": 4}, "sliding_attention"),
    "mistral": ({"model_type": "mistral", **SMALL, "sliding_window": 4}, "sliding_window=4"),
    "mistral-wide": ({"model_type": "mistral", **SMALL, "sliding_window": 100}, "sliding_window=100"),
    "gemma2-capped": (
        {"model_type": "gemma2", **SMALL, "layer_types": ["full_attention"] * 2, "sliding_window": 100},
        "softcap",
    ),
}


@pytest.mark.parametrize("architecture", ["youtu", "qwen3"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_a_model_that_does_as_it_is_told_is_accepted_and_packed(byte_level, architecture, attention):
    encoder = tiny.tiny_encoder(architecture, byte_level, attention=attention)
    assert encoder.packed
    verify_attention(encoder)
    encoder.packed = False
    verify_attention(encoder)


@pytest.mark.parametrize("told", ["bidirectional", "causal"])
@pytest.mark.parametrize("architecture", ["youtu", "qwen3"])
def test_a_model_that_ignores_is_causal_stops_the_run(byte_level, monkeypatch, architecture, told):
    """As old versions of transformers do: the config keeps the opposite, whatever we write."""

    def ignored(config, spec):
        config.is_causal = told == "bidirectional"

    monkeypatch.setattr(backbone, "_state_attention", ignored)
    with pytest.raises(UserError, match=f"model.attention={told}, but .*Model is (causal|bidirectional)"):
        tiny.tiny_encoder(architecture, byte_level, attention=told)


def test_bert_cannot_be_made_causal_by_wishing(byte_level):
    with pytest.raises(UserError, match=r"model\.attention=causal, but BertModel is bidirectional"):
        tiny.tiny_encoder("bert", byte_level, attention="causal")


def test_nearly_silent_layers_are_still_seen_as_bidirectional(byte_level):
    """`init: bag_of_words` keeps 1 % of the blocks' scale, for this check."""
    assert tiny.tiny_encoder("youtu", byte_level, init="bag_of_words").packed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_packed_and_verified(byte_level, dtype):
    assert tiny.tiny_encoder("qwen3", byte_level, dtype=dtype).packed


@pytest.mark.parametrize("name", LIMITED)
def test_windows_and_soft_caps_run_padded_with_one_warning_and_stay_right(byte_level, caplog, name):
    architecture, reason = LIMITED[name]
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, logger="codiemb"):
        encoder = load_encoder(
            ModelSpec(tokenizer=str(byte_level), architecture=architecture, attention="causal", max_tokens=64)
        )
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "runs padded, not packed" in caplog.text
    assert reason in caplog.text
    assert not encoder.packed

    model = tiny.untouched(encoder)
    encoder.eval()
    ids = encoder.tokenizer([("", text) for text in tiny.SENTENCES], 64)
    with torch.no_grad():
        rows = encoder(pack_texts(ids)).last_SD
        states = [model(torch.tensor([text.input_ids])).last_hidden_state[0].mean(0) for text in ids]
    expected = torch.nn.functional.normalize(torch.stack(states), dim=-1)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)


def test_a_model_that_does_not_use_our_attention_is_found_out(byte_level):
    """DeBERTa computes its own attention."""
    small = {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")}
    torch.manual_seed(0)
    encoder = load_encoder(
        ModelSpec(tokenizer=str(byte_level), architecture={"model_type": "deberta-v2", **small})
    )
    assert not encoder.packed
    assert packing_problem(encoder)
    assert encoder.encode(["a word"]).shape == (1, 32)


def test_positions_that_do_not_restart_are_found_out(byte_level, monkeypatch):
    """A model that ignores position_ids would see one long text."""
    encoder = tiny.tiny_encoder("bert", byte_level)
    forward = encoder.backbone.forward
    monkeypatch.setattr(encoder.backbone, "forward", lambda *, position_ids=None, **inputs: forward(**inputs))
    assert "differ" in packing_problem(encoder)


@pytest.mark.parametrize("changes", ["packed texts", "all texts"])
def test_what_changes_only_where_a_text_is_long_is_found(byte_level, monkeypatch, changes):
    """A window that stands in the mask alone, under a name of its own, is lost where there is no mask."""
    encoder = tiny.tiny_encoder("bert", byte_level)
    forward = encoder.backbone.forward

    def at_length(*, input_ids, **inputs):
        output = forward(input_ids=input_ids, **inputs)
        is_packed = "packing" in inputs
        if input_ids.shape[1] > 40 and (is_packed or changes == "all texts"):
            states = output.last_hidden_state
            output.last_hidden_state = states + 0.01 * states.mean((0, 1))
        return output

    monkeypatch.setattr(encoder.backbone, "forward", at_length)
    assert packing_problem(encoder) is None
    if changes == "packed texts":
        assert "packed and padded states of 64 tokens differ" in padding_reason(encoder)
    else:
        with pytest.raises(UserError, match="beside a long one"):
            padding_reason(encoder)
