"""Settings of a model: every file of the config group is valid; an impossible one dies before building."""

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from codiemb.config.schema import register
from codiemb.encoder import (
    LoraSpec,
    PromptSpec,
    check_spec,
    load_encoder,
    pack_texts,
)
from codiemb.errors import UserError
from tests.support import tiny
from tests.support.paths import CONF

FOREIGN = ("mteb", "youtu_api")  # loaded by others, for evaluation alone
CONFIGS = [path for path in sorted((CONF / "model").glob("*.yaml")) if path.stem not in FOREIGN]


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
