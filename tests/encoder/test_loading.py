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
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from codiemb.config.schema import register
from codiemb.encoder import (
    LoraSpec,
    ModelSpec,
    PromptSpec,
    check_path,
    check_spec,
    load_encoder,
    loading,
    pack_texts,
)
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny
from tests.support.paths import CONF

FOREIGN = ("mteb", "youtu_api")  # loaded by others, for evaluation alone
CONFIGS = [path for path in sorted((CONF / "model").glob("*.yaml")) if path.stem not in FOREIGN]


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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_model_group_is_a_valid_spec_named_after_its_file(path):
    register()
    with initialize_config_dir(str(path.parents[1]), version_base="1.3"):
        spec = OmegaConf.to_object(compose("train", [f"model={path.stem}"]).model)
    check_spec(replace(spec, path=spec.path or "some/folder"))
    assert spec.name == path.stem
    assert spec.trust_remote_code is False
    if spec.architecture:
        check_spec(replace(spec, weights="random"))


def test_there_are_model_configs():
    assert len(CONFIGS) >= 8


BAD_SPECS = {
    "pooling": ({"pooling": "max"}, "model.pooling='max' is none of mean, cls, last_token"),
    "attention": ({"attention": "full"}, "model.attention='full' is none of"),
    "dtype": ({"dtype": "fp16"}, "model.dtype='fp16' is none of"),
    "weights": ({"weights": "pretrained"}, "needs model.path=FOLDER_OR_HUB_ID"),
    "nothing": ({"architecture": {}}, "nothing to build"),
    "random": (
        {"architecture": {}, "path": "a/b", "weights": "random"},
        "model.weights=random needs model.architecture, and model=bert states none",
    ),
    "max_tokens": ({"max_tokens": 0}, "model.max_tokens=0 must be at least 1"),
    "lora": ({"lora": LoraSpec(r=-1)}, "model.lora.r=-1 must be at least 1"),
    "middle": ({"middle_layer": "last"}, "model.middle_layer='last' must be middle, null or"),
    "typo": (
        {"architecture": {"model_type": "bert", "hiden_size": 8}},
        "model.architecture.hiden_size: bert has no such key; did you mean hidden_size?",
    ),
    "model_type": ({"architecture": {"hidden_size": 8}}, "model.architecture.model_type is missing"),
    "unknown": ({"architecture": {"model_type": "brt"}}, "model_type='brt' is unknown"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_an_impossible_setting_is_refused_before_anything_is_built(byte_level, name):
    settings, message = BAD_SPECS[name]
    with pytest.raises(UserError) as caught:
        check_spec(replace(tiny.tiny_spec("bert", byte_level), **settings))
    assert message in str(caught.value)


@pytest.mark.parametrize("modules", [5, [], ["q_proj", 5], {"q_proj": 1}], ids=str)
def test_target_modules_are_a_list_or_one_string(byte_level, modules):
    spec = tiny.tiny_spec("qwen3", byte_level, lora=LoraSpec(r=4, target_modules=modules))
    with pytest.raises(UserError, match=r"model\.lora\.target_modules=.* must be all-linear, a regular"):
        check_spec(spec)


def test_a_list_of_target_modules_from_the_command_line_adapts_these(byte_level):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        lora = OmegaConf.to_object(compose("train", ["model.lora.target_modules=[q_proj,v_proj]"]).model.lora)
    encoder = tiny.tiny_encoder("qwen3", byte_level, lora=replace(lora, r=4))
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == {"q_proj", "v_proj"}
    assert len(trained) == 3 * 2 * 2  # layers, modules, factors


@pytest.mark.parametrize("key", ["query", "document"])
def test_a_backslash_n_in_a_prompt_is_warned_of_once_with_the_right_spelling(byte_level, caplog, key):
    """What Hydra makes of 'model.prompt.query="Instruct: a\\nQuery: "'."""
    prompt = PromptSpec(**{key: "Instruct: a\\nQuery: "})
    tiny.tiny_encoder("youtu", byte_level, prompt=prompt, pool_prompt=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"model.prompt.{key}='Instruct: a\\\\nQuery: ' holds a backslash" in caplog.text
    assert f"""$'model.prompt.{key}="...\\n..."'""" in caplog.text
    caplog.clear()
    tiny.tiny_encoder("youtu", byte_level, prompt=PromptSpec("Instruct: a\nQuery: "), pool_prompt=True)
    assert not caplog.records


UNBUILDABLE = {
    "layer": ({"middle_layer": "9"}, "model.middle_layer=9 is outside 0..2"),
    "tokenizer": ({"tokenizer": None}, "model.tokenizer is not set, and model=bert has no path"),
    "lora": ({"lora": LoraSpec(r=4, target_modules="q_proj")}, "model.lora: Target modules q_proj not found"),
    "vocab": (
        {"architecture": tiny.ARCHITECTURES["bert"] | {"vocab_size": 100}},
        "model.architecture.vocab_size=100 is smaller than the tokenizer's vocabulary",
    ),
    "heads": (
        {"architecture": tiny.ARCHITECTURES["bert"] | {"num_attention_heads": 3}},
        "model.architecture cannot be built: The hidden size (32) is not a multiple",
    ),
    "missing tokenizer": (
        {"tokenizer": "data/nowhere/tokenizer"},
        "model=bert needs 'data/nowhere/tokenizer', which is neither a local folder nor",
    ),
}


@pytest.mark.parametrize("name", UNBUILDABLE)
def test_a_model_that_cannot_be_built_is_a_user_error(byte_level, name):
    settings, message = UNBUILDABLE[name]
    with pytest.raises(UserError) as caught:
        load_encoder(replace(tiny.tiny_spec("bert", byte_level), **settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(("setting", "layer"), [("middle", 1), ("0", 0), ("2", 2), (None, None)])
def test_the_middle_layer_is_half_of_the_hidden_states_or_the_number_given(byte_level, setting, layer):
    encoder = tiny.tiny_encoder("bert", byte_level, middle_layer=setting)
    assert encoder.middle_layer == layer
    embeddings = encoder(pack_texts([([5, 6, 7], 0)]))
    assert (embeddings.middle_SD is None) == (setting is None)


def test_the_last_middle_layer_is_the_embedding_itself(byte_level):
    embeddings = tiny.tiny_encoder("youtu", byte_level, middle_layer="2")(pack_texts([([5, 6, 7], 0)]))
    torch.testing.assert_close(embeddings.middle_SD, embeddings.last_SD)


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
