"""The packed forward pass against transformers itself, and an embedding's independence of its batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codiemb.encoder import pack_texts
from codiemb.encoder.attention import position_offset
from tests.support import tiny

MODES = [
    ("youtu", "bidirectional"),
    ("youtu", "causal"),
    ("qwen3", "bidirectional"),
    ("qwen3", "causal"),
    ("bert", "bidirectional"),
    ("xlm-roberta", "bidirectional"),
]
TEXTS = [
    ("Retrieve", "How do I reset my password?"),
    ("", "余额不足，转账失败怎么办？"),
    ("", "a"),
    ("Retrieve", "余额"),
    ("", "b"),
    ("", "Returns the indices of the maximum values along an axis; ties are broken arbitrarily."),
]


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: "-".join(mode))
def encoder(request, byte_level):
    architecture, attention = request.param
    return tiny.tiny_encoder(architecture, byte_level, attention=attention, middle_layer="middle")


def packed_texts(encoder, texts=TEXTS):
    return pack_texts(encoder.tokenizer(texts, 64))


def run(encoder, *, packed):
    """Embeddings of both layers, and the gradient of a random projection of them, by parameter."""
    encoder.packed = packed
    encoder.zero_grad()
    rows = encoder(packed_texts(encoder))
    generator = torch.Generator().manual_seed(1)
    weight_SD = torch.randn(rows.last_SD.shape, generator=generator)
    (rows.last_SD * weight_SD + rows.middle_SD * weight_SD.flip(0)).sum().backward()
    encoder.packed = True
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return rows, gradients


def test_packed_and_padded_give_the_same_embeddings_and_gradients(encoder):
    packed_rows, packed_gradients = run(encoder, packed=True)
    padded_rows, padded_gradients = run(encoder, packed=False)
    for packed, padded in zip(packed_rows, padded_rows, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)
    assert packed_gradients.keys() == padded_gradients.keys()
    for name, gradient in packed_gradients.items():
        scale = padded_gradients[name].abs().max().clamp(min=1e-3)
        assert (gradient - padded_gradients[name]).abs().max() <= 1e-5 * max(1.0, scale), name


def test_embeddings_equal_those_of_an_untouched_model_one_text_at_a_time(encoder):
    """Eager attention of transformers, no padding, no packing, pooled by hand."""
    model = tiny.untouched(encoder)
    rows = encoder(packed_texts(encoder))
    for i, (ids, prompt_length) in enumerate(encoder.tokenizer(TEXTS, 64)):
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for ours, layer in ((rows.last_SD, -1), (rows.middle_SD, encoder.middle_layer)):
            expected = F.normalize(states[layer][0, prompt_length:].mean(0), dim=0)
            torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)


def test_every_trainable_parameter_gets_a_gradient(encoder):
    """DDP waits for all of them."""
    _, gradients = run(encoder, packed=True)
    assert gradients.keys() == {name for name, p in encoder.named_parameters() if p.requires_grad}


def test_batch_mates_and_order_do_not_change_an_embedding(encoder):
    together = encoder(packed_texts(encoder)).last_SD
    backwards = encoder(packed_texts(encoder, TEXTS[::-1])).last_SD.flip(0)
    alone = torch.cat([encoder(packed_texts(encoder, [text])).last_SD for text in TEXTS])
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tokens_per_batch", [1, 40, None])
def test_encode_returns_texts_in_order_whatever_the_batch(encoder, tokens_per_batch):
    texts = [text for _, text in TEXTS]
    encoded = encoder.encode(texts, instruction="Retrieve", tokens_per_batch=tokens_per_batch)
    expected = encoder(packed_texts(encoder, [("Retrieve", text) for text in texts])).last_SD
    np.testing.assert_allclose(encoded, expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-6)


def test_embeddings_are_told_apart(encoder):
    """Guards all tests above: of constant embeddings, everything would be equal."""
    rows = encoder(packed_texts(encoder)).last_SD
    assert ((rows @ rows.T).fill_diagonal_(0) < 0.99).all()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
def test_pooling_modes_agree_packed_and_padded(byte_level, pooling):
    encoder = tiny.tiny_encoder("bert", byte_level, pooling=pooling, append_eos=True)
    packed, padded = (encoder(packed_texts(encoder)).last_SD for encoder.packed in (True, False))
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)


def test_blank_texts_embed_to_unit_vectors(byte_level):
    encoder = tiny.tiny_encoder("youtu", byte_level)
    for instruction in ("", "Retrieve"):
        encoded = encoder.encode(["", "a word", " "], instruction=instruction)
        np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-6)


def test_nothing_to_encode_is_no_rows(byte_level):
    assert tiny.tiny_encoder("youtu", byte_level).encode([]).shape == (0, 32)


def test_encode_switches_dropout_off_and_back_on(byte_level):
    encoder = tiny.tiny_encoder("bert", byte_level)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert encoder.training
    first, second = encoder.encode(["a word"]), encoder.encode(["a word"])
    np.testing.assert_array_equal(first, second)
    assert encoder.training
    trained = [encoder(packed_texts(encoder)).last_SD for _ in range(2)]
    assert not torch.equal(*trained)


def test_bfloat16_weights_give_float32_unit_vectors(byte_level):
    encoder = tiny.tiny_encoder("youtu", byte_level, dtype="bfloat16")
    rows = encoder(packed_texts(encoder)).last_SD
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6, rtol=0)


def test_roberta_counts_positions_from_behind_its_padding_id(byte_level):
    encoder = tiny.tiny_encoder("xlm-roberta", byte_level, max_tokens=512)
    padding_id = encoder.backbone.config.pad_token_id
    assert position_offset(encoder.backbone) == padding_id + 1
    assert encoder.max_tokens == 128 - padding_id - 1
    encoder.encode(["hello world " * 200], max_tokens=512)  # fills the last position, and not one more


def test_describe_names_what_runs(byte_level):
    encoder = tiny.tiny_encoder("qwen3", byte_level, attention="causal", pooling="last_token")
    line, prompts = encoder.describe().splitlines()
    assert prompts == encoder.tokenizer.template.describe()
    assert line.startswith("qwen3: ")
    assert line.endswith("causal attention, last_token pooling, packed")


def test_what_is_encoded_in_bf16_is_near_and_says_so_and_training_is_not_touched(byte_level):
    encoder = tiny.tiny_encoder("bert", byte_level).train()
    texts = [text for _, text in TEXTS]
    exact_SD, settings = encoder.encode(texts), encoder.settings()
    encoder.encode_precision = "bf16-mixed"
    half_SD = encoder.encode(texts)
    cosine_S = (exact_SD * half_SD).sum(1)
    assert half_SD.dtype == np.float32
    assert 1e-7 < float((1 - cosine_S).max()) < 1e-3
    assert encoder.settings() == settings | {"precision": "bf16-mixed"}
    assert encoder.training
    assert encoder.hidden_states(packed_texts(encoder)).last_TD.dtype == torch.float32
