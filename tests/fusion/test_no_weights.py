"""Buffers, heads, poolers and prefixes make no two models of one; damaged folders say so in one line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForMaskedLM

from codiemb.encoder import ModelSpec, load_encoder
from codiemb.errors import UserError
from codiemb.fusion import FusionSpec, fuse
from codiemb.fusion.names import plain_names
from tests.support import tiny
from tests.support.family import export_family, weights_of

UNIFORM = FusionSpec("uniform")
POSITIONS = torch.arange(128)[None]


@pytest.fixture(scope="module")
def berts(byte_level, tmp_path_factory):
    return export_family(tmp_path_factory.mktemp("berts"), byte_level, "bert")


def rewritten(source, target, change):
    """A copy of a folder with another state dict: changed in place, or what `change` returns."""
    shutil.copytree(source, target)
    state = weights_of(source)
    state = change(state) or state
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


def prefixed(prefix):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def without_pooler(state):
    return {name: tensor for name, tensor in state.items() if "pooler" not in name}


def old_names(state):
    """As the first BERT was written."""
    return {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in state.items()
    }


MLM = {
    "cls.predictions.bias": torch.ones(7),
    "cls.predictions.transform.dense.weight": torch.ones(3, 3),
    "cls.seq_relationship.weight": torch.ones(2, 3),
}
CHANGES = {
    "position_ids": lambda s: s.update({"embeddings.position_ids": POSITIONS}),
    "other position_ids": lambda s: s.update({"embeddings.position_ids": POSITIONS[:, :5].clone()}),
    "token_type_ids": lambda s: s.update({"embeddings.token_type_ids": torch.zeros_like(POSITIONS)}),
    "inv_freq": lambda s: s.update({"encoder.layer.0.rotary_emb.inv_freq": torch.ones(4)}),
    "a mask of booleans": lambda s: s.update({"encoder.layer.0.attn.bias": torch.ones(3, 3).bool()}),
    "tied head": lambda s: s.update({"lm_head.weight": s["embeddings.word_embeddings.weight"].clone()}),
    "MLM head": lambda s: s.update(MLM),
    "prefix": prefixed("bert."),
    "prefix and heads": lambda s: prefixed("bert.")(s) | MLM,
    "prefix, buffer": lambda s: prefixed("bert.")(s | {"embeddings.position_ids": POSITIONS}),
    "no pooler": without_pooler,
    "first BERT": old_names,
}


@pytest.mark.parametrize("side", ["base", "first", "second"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_no_embedding_depends_on_changes_nothing_on_any_side(berts, tmp_path, change, side):
    folders = {"base": berts / "base", "first": berts / "child1", "second": berts / "child2"}
    expected = weights_of(
        fuse([folders["first"], folders["second"]], tmp_path / "expected", base=folders["base"])
    )
    folders[side] = rewritten(folders[side], tmp_path / "changed", CHANGES[change])
    fused = fuse([folders["first"], folders["second"]], tmp_path / "fused", base=folders["base"])
    found, plain = weights_of(fused), {}
    for name, stored in plain_names(dict.fromkeys(found, "F32")).items():
        plain[name] = found[stored]
    encoder = {name: tensor for name, tensor in expected.items() if "pooler" not in name}
    assert plain.keys() >= encoder.keys()
    assert all(torch.equal(plain[name], tensor) for name, tensor in encoder.items())
    assert not [name for name in plain if name.startswith(("cls.", "lm_head."))]
    _, report = AutoModel.from_pretrained(fused, output_loading_info=True)
    assert {name for name in report["missing_keys"] if "pooler" not in name} == set()


def test_what_is_left_out_is_said(berts, tmp_path, caplog):
    caplog.set_level("INFO")
    other = rewritten(
        berts / "child2", tmp_path / "other", lambda s: s | {"embeddings.position_ids": POSITIONS} | MLM
    )
    fuse([berts / "child1", other], tmp_path / "fused", UNIFORM)
    assert "left out, no embedding depends on them" in caplog.text
    for name in [*MLM, "embeddings.position_ids"]:
        assert name in caplog.text
    caplog.clear()
    fuse([berts / "child1", berts / "child2"], tmp_path / "fused", UNIFORM)
    assert not caplog.records


def test_a_base_with_its_masked_language_model_as_the_hub_has_it(berts, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(berts / "base")
    shutil.copytree(berts / "base", tmp_path / "hub")
    model.save_pretrained(tmp_path / "hub")
    assert any(name.startswith("cls.predictions") for name in weights_of(tmp_path / "hub"))
    children = [berts / "child1", berts / "child2"]
    expected = weights_of(fuse(children, tmp_path / "expected", base=berts / "base"))
    found = weights_of(fuse(children, tmp_path / "fused", base=tmp_path / "hub"))
    assert all(torch.equal(found[name], expected[name]) for name in expected if "pooler" not in name)
    load_encoder(ModelSpec(path=str(tmp_path / "fused"))).encode(tiny.SENTENCES)


def test_a_head_that_all_have_is_fused(berts, tmp_path):
    def folder(number):
        return rewritten(
            berts / f"child{number}",
            tmp_path / str(number),
            lambda s: s | {"lm_head.weight": torch.full((2,), number)},
        )

    children = [folder(1), folder(2)]
    for child in children:
        state = weights_of(child)
        state["lm_head.weight"] = state["lm_head.weight"].float()
        save_file(state, child / "model.safetensors", metadata={"format": "pt"})
    fused = weights_of(fuse(children, tmp_path / "fused", UNIFORM))
    assert fused["lm_head.weight"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    "name",
    ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.bias", "encoder.layer.1.new.weight"],
)
def test_a_weight_that_one_side_lacks_is_still_refused(berts, tmp_path, name):
    def change(state):
        if state.pop(name, None) is None:
            state[name] = torch.ones(3)

    other = rewritten(berts / "child2", tmp_path / "other", change)
    with pytest.raises(UserError, match="in weights: "):
        fuse([berts / "child1", other], tmp_path / "fused", UNIFORM)


def test_a_folder_of_heads_alone_is_refused(berts, tmp_path):
    folders = [rewritten(berts / f"child{n}", tmp_path / str(n), lambda _: MLM) for n in (1, 2)]
    with pytest.raises(UserError, match="has no weights that an embedding depends on"):
        fuse(folders, tmp_path / "fused", UNIFORM)


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["layers.0.w", "layers.1.w"], ["0.w", "1.w"]),  # nothing but one list: a part like any other
        (["model.decoder.embed.w", "model.decoder.layers.w"], ["embed.w", "layers.w"]),
        (["embed_tokens.weight", "norm.weight"], ["embed_tokens.weight", "norm.weight"]),
        (
            ["model.norm.weight", "model.embed.weight", "lm_head.weight"],
            ["norm.weight", "embed.weight", "lm_head.weight"],
        ),
        (["norm.weight"], ["norm.weight"]),
    ],
)
def test_a_prefix_is_what_all_weights_share(names, plain):
    assert list(plain_names(dict.fromkeys(names, "F32"))) == plain


# Damage


@pytest.fixture
def refused(berts, tmp_path):
    """The message for a pair of a good folder and a copy whose file has this content."""

    def message(file, content):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(berts / "child2", folder)
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        with pytest.raises(UserError) as error:
            fuse([berts / "child1", folder], tmp_path / "out", UNIFORM)
        assert "\n" not in str(error.value)
        assert str(folder / file) in str(error.value)
        return str(error.value)

    return message


@pytest.mark.parametrize(
    "content", [5, [], "text", {"weight_map": 5}, {"weight_map": ["a"]}, {"weight_map": {}}, {}]
)
def test_an_index_of_another_type_is_named(refused, content):
    assert refused("model.safetensors.index.json", json.dumps(content)).endswith("copy the folder again")


@pytest.mark.parametrize("file", [5, None, [], "", {}])
def test_an_index_that_names_no_file_is_named(refused, file):
    message = refused("model.safetensors.index.json", {"weight_map": {"norm.weight": file}})
    assert "weight_map.norm.weight is " in message
    assert message.endswith("not the name of a file")


@pytest.mark.parametrize(
    "where", ["../../x.safetensors", "{out}/x.safetensors", "link.safetensors", "sub/../../x", ".."]
)
def test_an_index_that_leaves_its_folder_is_named(berts, tmp_path, where):
    outside = tmp_path / "x.safetensors"
    shutil.copyfile(berts / "child2" / "model.safetensors", outside)
    folder = shutil.copytree(berts / "child2", tmp_path / "a" / "b")
    (folder / "link.safetensors").symlink_to(outside)
    index = {"weight_map": dict.fromkeys(weights_of(berts / "child2"), where.format(out=tmp_path))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(
        UserError, match=r"index\.json: weight_map\.\S+ is '\S+', which lies outside the folder"
    ):
        fuse([berts / "child1", folder], tmp_path / "out", UNIFORM)


def test_the_links_of_a_hub_cache_are_followed(berts, tmp_path):
    """A snapshot is links into the blobs beside it."""
    repository = tmp_path / "models--owner--name"
    snapshot = shutil.copytree(berts / "child2", repository / "snapshots" / "abc")
    (repository / "blobs").mkdir()
    (snapshot / "model.safetensors").rename(repository / "blobs" / "123")
    (snapshot / "part.safetensors").symlink_to("../../blobs/123")
    index = {"weight_map": dict.fromkeys(weights_of(berts / "child2"), "part.safetensors")}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    fuse([berts / "child1", snapshot], tmp_path / "out", UNIFORM)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[]", "is [], not a JSON object"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[" * 100_000, "is not JSON"),
        ("codiemb.json", "5", "is 5, not a JSON object"),
        ("codiemb.json", '{"model": []}', "model is [], not a JSON object"),
        ("tokenizer.json", '"text"', "is 'text', not a JSON object"),
    ],
)
def test_damaged_json_is_named(refused, file, content, message):
    assert message in refused(file, content)


@pytest.mark.parametrize("content", ["5", "[5]", '[{"idx": 0}]', '[{"path": 5}]'])
def test_damaged_modules_are_named(berts, tmp_path, content):
    first = shutil.copytree(berts / "child1", tmp_path / "first")
    (first / "modules.json").write_text(content)
    with pytest.raises(UserError, match=r"modules\.json is not a list of modules, each with a path"):
        fuse([first, berts / "child2"], tmp_path / "out", UNIFORM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "r is 0, not a rank"),
        ({"r": -1}, "r is -1, not a rank"),
        ({"r": "4"}, "r is '4', not a rank"),
        ({"r": None}, "r is None, not a rank"),
        ({"r": True}, "r is True, not a rank"),
        ({"lora_alpha": "big"}, "lora_alpha is 'big', not a number"),
        ({"lora_alpha": None}, "lora_alpha is None, not a number"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path is 5, not the name of a folder"),
        ([], "is [], not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_damaged_adapter_is_named(berts, tmp_path, change, message):
    folder = tmp_path / "adapter"
    folder.mkdir()
    factors = {"a.lora_A.weight": torch.ones(2, 3), "a.lora_B.weight": torch.ones(3, 2)}
    save_file(
        {f"base_model.model.{name}": t for name, t in factors.items()}, folder / "adapter_model.safetensors"
    )
    good = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(berts / "base")}
    content = good | change if isinstance(change, dict) else change
    (folder / "adapter_config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as error:
        fuse([berts / "child1", folder], tmp_path / "out", UNIFORM)
    assert str(error.value).startswith(f"{folder / 'adapter_config.json'}")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (3, 3), "have no product"),
        ((2, 5), (5, 2), "as [5, 5], but its base"),
        ((2,), (3, 2), "have no product"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_before_any_work(berts, tmp_path, a, b, message):
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = "base_model.model.encoder.layer.0.attention.self.query."
    factors = {name + "lora_A.weight": torch.ones(a), name + "lora_B.weight": torch.ones(b)}
    save_file(factors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(berts / "base")}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        fuse([berts / "child1", folder], tmp_path / "out", UNIFORM)
    assert message in str(error.value)
