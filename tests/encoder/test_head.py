"""Language-model training on the real encoder: documents stay apart, and every head is found."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from codiemb.batch import LanguageBatch
from codiemb.data import Collator, TaskSpec
from codiemb.data.records import Record, Text
from codiemb.encoder import Encoder, LanguageHead, LoraSpec, ModelSpec, load_encoder, load_head
from codiemb.losses import TokenPrediction
from tests.support import tiny

SPECS = {
    "causal": TaskSpec(max_document_tokens=24),
    "bidirectional": TaskSpec(max_document_tokens=24, mask_share=0.4),
}


def batch_of(encoder: Encoder, texts: list[str], indices: list[int] | None = None) -> LanguageBatch:
    records = [Record("lm", Text("", text), [], [], [], []) for text in texts]
    collator = Collator(encoder.tokenizer, {"lm": SPECS[encoder.attention]}, seed=1)
    indices = list(range(len(texts))) if indices is None else indices
    batch = collator(records, source="s", epoch=0, indices=indices)
    assert isinstance(batch, LanguageBatch)
    return batch


def random_head(encoder: Encoder) -> LanguageHead:
    weight_VD = encoder.backbone.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(5)
    return LanguageHead(torch.randn(weight_VD.shape, generator=generator).to(weight_VD.dtype))


def summed_loss(encoder: Encoder, head: LanguageHead, batch: LanguageBatch) -> torch.Tensor:
    return TokenPrediction()(head(encoder, batch)).value * len(batch.target_P)


@pytest.mark.parametrize("attention", SPECS)
def test_a_documents_loss_does_not_depend_on_the_documents_packed_with_it(byte_level, attention):
    encoder = tiny.tiny_encoder("youtu", byte_level, attention=attention).double()
    head = random_head(encoder)
    together = summed_loss(encoder, head, batch_of(encoder, tiny.SENTENCES))
    alone = [
        summed_loss(encoder, head, batch_of(encoder, [text], [i])) for i, text in enumerate(tiny.SENTENCES)
    ]
    assert together > 100
    torch.testing.assert_close(together, sum(alone), rtol=1e-10, atol=1e-10)


def test_an_embedding_predicts_what_its_own_text_lacks(byte_level, monkeypatch):
    monkeypatch.setitem(
        SPECS, "bidirectional", TaskSpec(16, 24, 24, mask_share=0.4, predict_from="embedding")
    )
    encoder = tiny.tiny_encoder("youtu", byte_level).double()
    head = random_head(encoder)
    batch = batch_of(encoder, tiny.SENTENCES)
    embedding_SD = encoder(batch.texts).last_SD * embedding_size(encoder) ** 0.5
    starts = [0, *batch.texts.sequence_lengths]
    losses = []
    for row, start in zip(embedding_SD, torch.tensor(starts).cumsum(0)[:-1], strict=True):
        target = batch.target_P[batch.predictor_P == start]
        losses.append(cross_entropy((row @ head.weight.T).expand(len(target), -1), target, reduction="sum"))
    torch.testing.assert_close(summed_loss(encoder, head, batch), sum(losses), rtol=1e-10, atol=1e-10)


def embedding_size(encoder: Encoder) -> int:
    return encoder.backbone.config.hidden_size


@pytest.mark.parametrize("architecture", ["youtu", "qwen3"])
def test_next_token_loss_is_that_of_transformers_causal_language_model(byte_level, architecture):
    """The oracle pads and masks in its own way, document by document, and computes all logits."""
    encoder = tiny.tiny_encoder(architecture, byte_level, attention="causal")
    config = copy.deepcopy(encoder.backbone.config)
    config._attn_implementation = "eager"
    oracle = AutoModelForCausalLM.from_config(config)
    oracle.base_model.load_state_dict(encoder.backbone.state_dict())
    head = random_head(encoder)
    oracle.lm_head.weight = torch.nn.Parameter(head.weight.detach().clone())
    batch = batch_of(encoder, tiny.SENTENCES)
    total, count = torch.zeros(()), 0
    for ids in batch.texts.input_ids_T.split(list(batch.texts.sequence_lengths)):
        logit_LV = oracle(input_ids=ids[None]).logits[0]
        total = total + cross_entropy(logit_LV[:-1], ids[1:], reduction="sum")
        count += len(ids) - 1
    assert count == len(batch.target_P)
    torch.testing.assert_close(
        TokenPrediction()(head(encoder, batch)).value, total / count, rtol=1e-5, atol=1e-5
    )


def test_the_state_before_a_masked_token_sees_what_follows_it(byte_level):
    encoder = tiny.tiny_encoder("youtu", byte_level).double()
    batch = batch_of(encoder, [" ".join(tiny.SENTENCES[:3])])
    state_PD = random_head(encoder)(encoder, batch).state_PD
    torch.testing.assert_close(state_PD, encoder.hidden_states(batch.texts).last_TD[batch.predictor_P])
    *_, last = batch.texts.sequence_lengths
    ids_T = batch.texts.input_ids_T.clone()
    ids_T[-1] += 1
    changed = batch._replace(texts=batch.texts._replace(input_ids_T=ids_T))
    differs_P = (random_head(encoder)(encoder, changed).state_PD != state_PD).any(dim=1)
    assert torch.equal(differs_P, batch.predictor_P >= len(ids_T) - last)  # inside its window, and only there
    assert 0 < differs_P.sum() < len(differs_P)


@pytest.mark.parametrize("attention", SPECS)
@pytest.mark.parametrize("tied", [True, False])
def test_chunks_have_the_gradient_of_the_whole_batch(byte_level, attention, tied):
    encoder = tiny.tiny_encoder("youtu", byte_level, attention=attention).double().train()
    head = LanguageHead() if tied else random_head(encoder)
    batch = batch_of(encoder, tiny.SENTENCES)
    gradients = []
    for budget in (None, max(batch.texts.sequence_lengths), 60):
        model = torch.nn.ModuleList([copy.deepcopy(encoder), copy.deepcopy(head)])
        model[0].max_tokens_per_chunk = budget
        TokenPrediction(5)(model[1](model[0], batch)).value.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(gradient is not None for gradient in gradients[0])
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


# Where the head comes from

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.fixture
def causal_model(byte_level, tmp_path):
    """Save a causal language model as the hub has it, and load it as an encoder."""

    def make(**settings) -> tuple[ModelSpec, Encoder, torch.Tensor]:
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(byte_level)
        model = AutoModelForCausalLM.from_config(Qwen3Config(vocab_size=len(tokenizer), **TINY, **settings))
        model.save_pretrained(tmp_path / "lm")
        tokenizer.save_pretrained(tmp_path / "lm")
        spec = ModelSpec(path=str(tmp_path / "lm"), prompt=tiny.tiny_spec("bert", byte_level).prompt)
        return spec, load_encoder(spec), model.lm_head.weight.detach()

    return make


def test_an_untied_head_of_the_checkpoint_is_taken(causal_model):
    spec, encoder, weight_VD = causal_model(tie_word_embeddings=False)
    head = load_head(spec, encoder)
    assert head.weight is not None
    assert torch.equal(head.weight, weight_VD)
    assert not torch.equal(head.weight, encoder.backbone.get_input_embeddings().weight)
    assert head.weight.requires_grad


def test_a_tied_head_is_the_embedding_itself_and_no_parameter_of_its_own(causal_model):
    spec, encoder, _ = causal_model(tie_word_embeddings=True)
    head = load_head(spec, encoder)
    assert not list(head.parameters())
    states = head(encoder, batch_of(encoder, ["a word is enough"]))
    assert states.head_VD is encoder.backbone.get_input_embeddings().weight


def test_with_lora_the_loaded_head_is_frozen_and_a_new_one_trained(causal_model):
    spec, encoder, _ = causal_model(tie_word_embeddings=False)
    spec.lora = LoraSpec(r=2)
    assert not load_head(spec, encoder).weight.requires_grad
    spec.weights = "random"
    encoder.backbone.to(torch.bfloat16)  # as LoRA leaves frozen weights
    head = load_head(spec, encoder)
    assert head.weight.requires_grad
    assert head.weight.dtype == head.bias.dtype == torch.float32


@pytest.mark.parametrize("source", ["random", "encoder", "stripped"])
def test_without_a_head_in_the_checkpoint_a_new_one_starts_at_zero(
    byte_level, tmp_path, causal_model, source
):
    """At zero the loss is ln(vocabulary), whatever the scale of the states."""
    if source == "random":
        spec = tiny.tiny_spec("youtu", byte_level, init="bag_of_words")
        encoder = load_encoder(spec)
    elif source == "encoder":
        tiny.tiny_encoder("bert", byte_level).backbone.save_pretrained(tmp_path / "e")
        AutoTokenizer.from_pretrained(byte_level).save_pretrained(tmp_path / "e")
        spec = ModelSpec(path=str(tmp_path / "e"))
        encoder = load_encoder(spec)
    else:  # says that it is a causal language model, but its head was not saved
        spec, encoder, _ = causal_model(tie_word_embeddings=False)
        encoder.backbone.save_pretrained(tmp_path / "lm")
        text = (tmp_path / "lm" / "config.json").read_text("utf-8")
        (tmp_path / "lm" / "config.json").write_text(text.replace("Qwen3Model", "Qwen3ForCausalLM"), "utf-8")
        encoder = load_encoder(spec)
    head = load_head(spec, encoder)
    assert head.weight.shape == encoder.backbone.get_input_embeddings().weight.shape
    assert not head.weight.any()
    assert head.is_untrained
    value = TokenPrediction()(head(encoder, batch_of(encoder, tiny.SENTENCES[:1]))).value
    assert value.item() == pytest.approx(torch.tensor(float(len(head.weight))).log().item())


def test_a_new_head_started_from_counts_predicts_every_token_as_often_as_it_occurs(byte_level):
    spec = tiny.tiny_spec("youtu", byte_level)
    encoder = load_encoder(spec)
    head = load_head(spec, encoder)
    batch = batch_of(encoder, tiny.SENTENCES)
    counts_V = 1.0 + batch.target_P.bincount(minlength=len(head.bias))
    head.set_token_frequencies(counts_V)
    share_V = counts_V / counts_V.sum()
    expected = -share_V[batch.target_P].log().mean()
    torch.testing.assert_close(TokenPrediction()(head(encoder, batch)).value, expected)
    assert expected < torch.tensor(float(len(counts_V))).log() - 0.5
