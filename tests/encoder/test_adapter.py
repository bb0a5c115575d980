"""A folder with an adapter alone is its base with the adapter merged; parts that do not fit are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from codiemb.encoder import ModelSpec, check_path, load_encoder
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny

CAUSAL = {"attention": "causal", "pooling": "mean", "pool_prompt": True}


@pytest.fixture(scope="module")
def base(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "qwen3"
    tiny.tiny_encoder("qwen3", byte_level, attention="causal").backbone.save_pretrained(folder)
    AutoTokenizer.from_pretrained(byte_level).save_pretrained(folder)
    return folder


def save_adapter(base: Path, out: Path, kind: Any = AutoModel, **settings: Any) -> Path:
    """An adapter that changes every embedding, saved by peft."""
    config = LoraConfig(**({"r": 2, "target_modules": ["q_proj", "v_proj"]} | settings))
    model = kind.from_pretrained(base)
    torch.manual_seed(3)
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=generator)
    model.save_pretrained(out)
    return out


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return save_adapter(base, tmp_path / "adapter")


def test_an_adapter_alone_is_its_base_with_the_adapter(base: Path, adapter: Path):
    check_path(ModelSpec(path=str(adapter)))
    encoder = load_encoder(ModelSpec(path=str(adapter), **CAUSAL))
    for name in ("modules.json", "1_Pooling", "tokenizer.json", "tokenizer_config.json"):
        assert not (adapter / name).exists()
    shutil.copy(base / "tokenizer.json", adapter)
    shutil.copy(base / "tokenizer_config.json", adapter)
    theirs_SD = SentenceTransformer(str(adapter), device="cpu").encode(
        tiny.SENTENCES, normalize_embeddings=True
    )
    ours_SD = encoder.encode(tiny.SENTENCES)
    assert (ours_SD * theirs_SD).sum(1).min() > 1 - 1e-6
    without_SD = load_encoder(ModelSpec(path=str(base), **CAUSAL)).encode(tiny.SENTENCES)
    assert (ours_SD * without_SD).sum(1).min() < 0.99


def test_what_an_adapter_alone_becomes_can_be_trained_and_exported_as_a_whole_model(
    adapter: Path, tmp_path: Path
):
    encoder = load_encoder(ModelSpec(path=str(adapter), **CAUSAL))
    assert all(parameter.requires_grad for parameter in encoder.backbone.parameters())
    export = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="")
    assert not (export / "adapter_config.json").exists()
    np.testing.assert_allclose(
        load_encoder(ModelSpec(path=str(export))).encode(tiny.SENTENCES),
        encoder.encode(tiny.SENTENCES),
        atol=1e-6,
    )


def test_an_adapter_that_was_trained_under_a_language_model_head_fits_the_bare_model(base, tmp_path):
    folder = save_adapter(base, tmp_path / "lm", AutoModelForCausalLM, task_type="CAUSAL_LM")
    encoder = load_encoder(ModelSpec(path=str(folder), **CAUSAL))
    same = load_encoder(ModelSpec(path=str(save_adapter(base, tmp_path / "bare")), **CAUSAL))
    np.testing.assert_allclose(encoder.encode(tiny.SENTENCES), same.encode(tiny.SENTENCES), atol=1e-6)


def test_an_adapter_has_its_bases_settings(base: Path, tmp_path: Path):
    encoder = load_encoder(ModelSpec(path=str(base), attention="causal", pooling="last_token", max_tokens=33))
    export = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="")
    adapter = save_adapter(export, tmp_path / "adapter")
    spec, _ = with_folder_settings(ModelSpec(path=str(adapter)))
    assert (spec.path, spec.pooling) == (str(adapter), "last_token")
    assert (spec.attention, spec.max_tokens) == ("causal", 33)
    assert load_encoder(ModelSpec(path=str(adapter))).max_tokens == 33


def test_an_adapter_beside_whole_weights_is_refused_and_not_silently_merged(base: Path, tmp_path: Path):
    folder = Path(shutil.copytree(base, tmp_path / "both"))
    save_adapter(base, folder)
    for check in (check_path, load_encoder):
        with pytest.raises(UserError, match=r"a whole model and an adapter \(adapter_config\.json\)"):
            check(ModelSpec(path=str(folder), **CAUSAL))


DAMAGED = {
    "r 0": ({"r": 0}, "adapter_config.json: the adapter cannot be loaded: .*positive integer"),
    "r": ({"r": "x"}, "adapter_config.json: the adapter cannot be loaded"),
    "targets": ({"target_modules": 5}, "adapter_config.json: the adapter cannot be loaded"),
    "kind": ({"peft_type": "BANANA"}, "adapter_config.json: the adapter cannot be loaded"),
    "fewer": (
        {"target_modules": ["q_proj"]},
        "does not fit Qwen3Model: .*has no place in",
    ),
    "more": (
        {"target_modules": ["q_proj", "v_proj", "o_proj"]},
        "does not fit .*is not in its file",
    ),
    "no base": ({"base_model_name_or_path": None}, "names no base model"),
    "base": ({"base_model_name_or_path": 5}, "base_model_name_or_path=5 must be a string"),
    "other base": ({"base_model_name_or_path": "/no/where"}, "names the base '/no/where', which is neither"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_adapter_is_one_error_that_names_its_file(adapter: Path, name: str):
    changes, message = DAMAGED[name]
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        load_encoder(ModelSpec(path=str(adapter), **CAUSAL))


def test_an_adapter_without_weights_or_with_another_form_is_refused(adapter: Path):
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has adapter_config\.json but no weights"):
        check_path(ModelSpec(path=str(adapter)))
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(UserError, match=r"adapter_config\.json must hold an object, not a list"):
        check_path(ModelSpec(path=str(adapter)))


def test_tokens_without_embeddings_are_refused_when_the_model_is_loaded(base: Path, tmp_path: Path):
    folder = Path(shutil.copytree(base, tmp_path / "added"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["refund"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"1 of the tokenizer's tokens lie beyond .*'refund'.*resize_token_"):
        load_encoder(ModelSpec(path=str(folder), **CAUSAL))
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    assert load_encoder(ModelSpec(path=str(folder), **CAUSAL)).encode(["a refund"]).shape == (1, 32)
