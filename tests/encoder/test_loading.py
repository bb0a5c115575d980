"""Every model that cannot be loaded is one UserError with the ways on; nothing runs code unless asked."""

import json
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer

from codiemb.encoder import (
    LoraSpec,
    ModelSpec,
    check_path,
    load_encoder,
    loading,
    pack_texts,
)
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny


@pytest.fixture(scope="module")
def saved(byte_level, tmp_path_factory):
    """A bert folder on disk, to be damaged in a copy."""
    encoder = tiny.tiny_encoder("bert", byte_level)
    return export_sentence_transformer(
        encoder, tmp_path_factory.mktemp("saved") / "bert", query_instruction=""
    )


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "bert"))


HUB = ModelSpec(name="youtu2b", path="tencent/Youtu-LLM-2B-Base", architecture={"model_type": "youtu"})


def test_a_hub_model_without_a_hub_is_one_user_error_with_the_ways_on():
    with pytest.raises(UserError) as caught:
        load_encoder(HUB)
    message = str(caught.value)
    assert message.startswith("model=youtu2b needs 'tencent/Youtu-LLM-2B-Base', which is neither")
    assert message.endswith("Ways on: model.path=FOLDER, model.weights=random, model=youtu_tiny")
    assert "\n" not in message


def test_a_machine_without_network_says_so_in_seconds_and_not_after_all_retries(monkeypatch):
    """huggingface_hub retries five times, twice: 47 seconds."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    started = time.perf_counter()
    with pytest.raises(UserError, match="youtu2b"):
        load_encoder(HUB)
    assert time.perf_counter() - started < 8


def test_random_weights_take_the_fallback_tokenizer_where_their_own_is_not_to_be_had(byte_level, caplog):
    spec = tiny.tiny_spec(
        "youtu", byte_level, path="a/b", weights="random", fallback_tokenizer=str(byte_level)
    )
    spec = replace(spec, tokenizer=None)
    assert load_encoder(spec).encode(["a word"]).shape == (1, 32)
    assert "no tokenizer at 'a/b'" in caplog.text
    with pytest.raises(UserError, match="'data/nowhere'"):
        load_encoder(replace(spec, fallback_tokenizer="data/nowhere"))
    with pytest.raises(UserError, match="'a/b'"):  # pretrained weights need their own tokenizer
        load_encoder(replace(spec, weights=None))


def test_a_folder_loads_with_the_same_weights(folder, byte_level):
    loaded = load_encoder(ModelSpec(path=str(folder))).backbone.state_dict()
    original = tiny.tiny_encoder("bert", byte_level).backbone.state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[name], original[name]) for name in loaded)


def test_a_folder_without_weights_or_with_damaged_ones_is_a_user_error(folder):
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot load a model from the folder"):
        load_encoder(ModelSpec(path=str(folder)))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has a config\.json but no weights"):
        load_encoder(ModelSpec(path=str(folder)))


def test_a_path_that_is_no_model_folder_is_refused_with_what_was_probably_meant(folder, tmp_path):
    run = tmp_path / "outputs" / "run"
    shutil.copytree(folder, run / "export")
    checkpoint = run / "last.ckpt"
    checkpoint.write_bytes(b"")
    for path, message in (
        (tmp_path, "is no model folder: it has no config.json"),
        (run, rf"is no model folder: it has no config\.json; did you mean model\.path={run}/export\?"),
        (checkpoint, "is a file; it must be a folder with config.json and weights, or a hub id"),
        (run / "exprt", "no such folder. A stage leaves its model in outputs/STAGE/export when it is done"),
        ("outputs/pretrain/export", "model.path=outputs/pretrain/export: no such folder"),
    ):
        for check in (check_path, load_encoder):
            with pytest.raises(UserError, match=message):
                check(ModelSpec(path=str(path)))
    check_path(ModelSpec(path=str(run / "export")))
    check_path(ModelSpec(path="owner/name"))  # the hub decides
    check_path(ModelSpec(path="no/such/folder", weights="random"))  # not read


def test_a_folder_that_states_nonsense_is_a_user_error(folder):
    (folder / "codiemb.json").write_text(json.dumps({"model": {"pooling": "max"}}))
    with pytest.raises(UserError, match=r"codiemb\.json: pooling='max' is none of"):
        load_encoder(ModelSpec(path=str(folder)))


def test_weights_that_are_missing_are_a_user_error_and_never_silently_random(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"lacks 16 weights of BertModel \(encoder\.layer\.2"):
        load_encoder(ModelSpec(path=str(folder)))


class Malicious:
    """Unpickling it writes a file."""

    def __init__(self, evidence):
        self.evidence = evidence

    def __reduce__(self):
        return Path.touch, (self.evidence,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_pickled_weights_run_no_code(folder, tmp_path, writer):
    (folder / "model.safetensors").unlink()
    evidence = tmp_path / "ran"
    with (folder / "pytorch_model.bin").open("wb") as file:
        if writer == "pickle":
            pickle.dump(Malicious(evidence), file)
        else:
            torch.save({"weights": Malicious(evidence)}, file)
    with pytest.raises(UserError, match="a pickle with more than tensors in it, and were not opened"):
        load_encoder(ModelSpec(path=str(folder)))
    assert not evidence.exists()
    Malicious(evidence).__reduce__()[0](evidence)  # it would have worked
    assert evidence.exists()


def test_code_that_comes_with_a_model_does_not_run_unless_asked(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    config = config | {"auto_map": auto_map, "model_type": "theirs"}
    (folder / "config.json").write_text(json.dumps(config))
    evidence = tmp_path / "ran"
    (folder / "theirs.py").write_text(f"open({str(evidence)!r}, 'w').close()\n")
    with pytest.raises(UserError, match=r"its own Python code; .* model\.trust_remote_code=true"):
        load_encoder(ModelSpec(path=str(folder)))
    assert not evidence.exists()


@pytest.mark.parametrize("architecture", ["youtu", "qwen3", "bert"])
def test_lora_trains_adapters_only_and_all_of_them(byte_level, architecture):
    encoder = tiny.tiny_encoder(architecture, byte_level, lora=LoraSpec(r=4))
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    rows = encoder(pack_texts(encoder.tokenizer([("", text) for text in tiny.SENTENCES], 64))).last_SD
    (rows * torch.randn_like(rows)).sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == trainable
    assert encoder.packed


def test_a_new_lora_changes_no_embedding(byte_level):
    plain = tiny.tiny_encoder("youtu", byte_level).encode(tiny.SENTENCES)
    adapted = tiny.tiny_encoder("youtu", byte_level, lora=LoraSpec(r=4)).encode(tiny.SENTENCES)
    torch.testing.assert_close(torch.tensor(adapted), torch.tensor(plain))


def test_a_slow_tokenizer_is_a_user_error(byte_level, monkeypatch):
    slow = AutoTokenizer.from_pretrained(byte_level)
    monkeypatch.setattr(type(slow), "is_fast", property(lambda _: False))
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", lambda *_, **__: slow)
    with pytest.raises(UserError, match="without character offsets"):
        tiny.tiny_encoder("bert", byte_level)


def test_a_folders_own_tokenizer_wins_over_the_fallback(folder, wordpiece, byte_level):
    spec = tiny.tiny_spec("youtu", byte_level, path=str(folder), fallback_tokenizer=str(wordpiece))
    encoder = load_encoder(replace(spec, tokenizer=None))
    assert len(encoder.tokenizer.hf) == len(AutoTokenizer.from_pretrained(byte_level))


def test_builtin_data_that_is_not_there_is_named_where_a_random_model_takes_its_tokenizer_from_it(byte_level):
    spec = replace(tiny.tiny_spec("bert", byte_level), tokenizer=None, fallback_tokenizer="no/such/folder")
    with pytest.raises(UserError, match=r"no tokenizer at no/such/folder; `make data` prepares it"):
        load_encoder(spec)
