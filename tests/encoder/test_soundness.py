"""What cannot be trained is refused before training, by one error that names it."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from codiemb.encoder import LoraSpec, ModelSpec, load_encoder, load_head
from codiemb.errors import UserError
from tests.support import tiny


def saved(encoder, tokenizer, folder):
    encoder.backbone.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return ModelSpec(path=str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("lora", [LoraSpec(), LoraSpec(r=2)], ids=["full", "lora"])
def test_a_checkpoint_with_one_bad_weight_is_refused(byte_level, tmp_path, value, lora):
    encoder = tiny.tiny_encoder("bert", byte_level)
    encoder.backbone.encoder.layer[1].output.dense.weight.data[3, 4] = value
    spec = saved(encoder, byte_level, tmp_path)
    with pytest.raises(UserError, match=r"1 of its weights hold NaN or infinity \(encoder\.layer\.1\.output"):
        load_encoder(replace(spec, lora=lora))


def test_weights_that_float16_cannot_hold_are_refused_with_the_way_on(byte_level, tmp_path):
    encoder = tiny.tiny_encoder("bert", byte_level)
    encoder.backbone.encoder.layer[0].output.dense.bias.data[0] = 1e6
    spec = saved(encoder, byte_level, tmp_path)
    with pytest.raises(UserError, match=r"try model\.dtype=bfloat16"):
        load_encoder(replace(spec, dtype="float16"))


def test_a_language_model_head_with_a_bad_weight_is_refused(byte_level, tmp_path):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(byte_level)
    small = {key: value for key, value in tiny.ARCHITECTURES["qwen3"].items() if key != "model_type"}
    model = AutoModelForCausalLM.from_config(Qwen3Config(vocab_size=len(tokenizer), **small))
    model.lm_head.weight.data[7, 7] = float("nan")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = ModelSpec(path=str(tmp_path))
    encoder = load_encoder(spec)
    with pytest.raises(UserError, match=r"language-model head\): 1 of its weights hold NaN"):
        load_head(spec, encoder)


def test_lora_that_reaches_only_the_pooler_is_refused(byte_level):
    with pytest.raises(UserError, match=r"model\.lora\.target_modules=.*pooler.* trains no weight"):
        tiny.tiny_encoder("bert", byte_level, lora=LoraSpec(r=2, target_modules=".*pooler.dense"))


def test_lora_on_what_no_embedding_passes_is_refused(byte_level, monkeypatch):
    """A module of its own making that nothing calls."""
    from codiemb.encoder import loading

    build = loading.random_backbone

    def with_idle_part(*args):
        backbone = build(*args)
        backbone.idle = torch.nn.Linear(32, 32)
        return backbone

    monkeypatch.setattr(loading, "random_backbone", with_idle_part)
    with pytest.raises(UserError, match="trains no weight on the way to an embedding"):
        tiny.tiny_encoder("bert", byte_level, lora=LoraSpec(r=2, target_modules="idle"))


def test_a_model_without_a_weight_to_train_is_refused(byte_level, monkeypatch):
    from codiemb.encoder import loading

    monkeypatch.setattr(loading, "_freeze_pooler", lambda backbone: backbone.requires_grad_(False))
    with pytest.raises(UserError, match="no weight of the model would be trained"):
        tiny.tiny_encoder("bert", byte_level)


@pytest.mark.parametrize("model_type", ["t5", "bart", "mt5", "marian", "pegasus", "m2m_100", "led", "umt5"])
@pytest.mark.parametrize("source", ["random", "folder"])
def test_encoder_decoders_are_refused_by_name_before_anything_is_loaded(tmp_path, model_type, source):
    config = AutoConfig.for_model(model_type)
    config.save_pretrained(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    spec = (
        ModelSpec(path=str(tmp_path))
        if source == "folder"
        else ModelSpec(tokenizer=str(tmp_path), architecture={"model_type": model_type})
    )
    with pytest.raises(UserError, match=rf"is an encoder-decoder \({model_type}\), which is not supported"):
        load_encoder(spec)


def test_an_encoder_decoder_that_denies_it_is_refused_by_its_inputs(byte_level):
    small = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    small |= {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    with pytest.raises(UserError, match=r"is an encoder-decoder \(bart\)"):
        load_encoder(
            ModelSpec(
                tokenizer=str(byte_level),
                architecture={"model_type": "bart", "is_encoder_decoder": False, **small},
            )
        )


def test_a_model_of_images_and_text_is_refused_by_name(tmp_path):
    AutoConfig.for_model("llava").save_pretrained(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"\(llava\) is no text model"):
        load_encoder(ModelSpec(path=str(tmp_path)))
