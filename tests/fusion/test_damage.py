"""Model folders that are damaged, or whose index leaves them, end in one line that names the file."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from codiemb.errors import UserError
from codiemb.fusion import FusionSpec, fuse
from tests.support.family import export_family, weights_of

UNIFORM = FusionSpec("uniform")


@pytest.fixture(scope="module")
def berts(byte_level, tmp_path_factory):
    return export_family(tmp_path_factory.mktemp("berts"), byte_level, "bert")


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
        ("config.json", "[]", "must hold an object, not a list"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[" * 100_000, "is not JSON"),
        ("codiemb.json", "5", "must hold an object, not a number"),
        ("codiemb.json", '{"model": []}', "model=[] must be an object"),
        ("tokenizer.json", '"text"', "must hold an object, not a string"),
    ],
)
def test_damaged_json_is_named(refused, file, content, message):
    assert message in refused(file, content)


@pytest.mark.parametrize("content", ["5", "[5]", '[{"idx": 0}]', '[{"path": 5}]'])
def test_damaged_modules_are_named(berts, tmp_path, content):
    first = shutil.copytree(berts / "child1", tmp_path / "first")
    (first / "modules.json").write_text(content)
    with pytest.raises(
        UserError,
        match=r"modules\.json (is not a list of modules, each with a path|must hold a list, not a number)",
    ):
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
        ([], "must hold an object, not a list"),
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
