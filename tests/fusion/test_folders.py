"""Fusing folders gives a folder of the same kind, whatever form its inputs have, with a record of how."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from codiemb.encoder import ModelSpec, load_encoder
from codiemb.fusion import FUSION_FILE, FusionSpec, fuse
from codiemb.fusion.weights import fuse_tensor
from tests.support import tiny
from tests.support.family import INSTRUCTION, export_family, weights_of

UNIFORM = FusionSpec("uniform")


def mean_of(folders):
    states = [weights_of(folder) for folder in folders]
    return {name: torch.stack([s[name].double() for s in states]).mean(0) for name in states[0]}


def assert_weights(folder, expected, tolerance=1e-7):
    found = weights_of(folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("architecture", ["youtu", "qwen3", "bert"])
def test_a_fusion_is_an_export_that_embeds_with_the_mean_weights(architecture, byte_level, tmp_path):
    folder = export_family(tmp_path, byte_level, architecture)
    children = [folder / "child0", folder / "child1", folder / "child2"]
    fused = fuse(children, tmp_path / "fused", UNIFORM)
    oracle = load_encoder(ModelSpec(path=str(children[0])))
    oracle.backbone.load_state_dict(mean_of(children))
    expected = oracle.encode(tiny.SENTENCES, instruction=INSTRUCTION)
    model = SentenceTransformer(str(fused), device="cpu")
    assert set(model.prompts) == {"query", "document", "named"}
    np.testing.assert_allclose(model.encode_query(tiny.SENTENCES), expected, atol=1e-5)
    ours = load_encoder(ModelSpec(path=str(fused)))
    np.testing.assert_allclose(ours.encode(tiny.SENTENCES, instruction=INSTRUCTION), expected, atol=1e-6)
    first = load_encoder(ModelSpec(path=str(children[0]))).encode(tiny.SENTENCES, instruction=INSTRUCTION)
    assert not np.allclose(first, expected, atol=1e-3)  # so that equality says something


def test_every_tensor_of_a_delta_fusion_is_the_formulas(family, children, tmp_path):
    spec = FusionSpec("delta", 2.0, "row", "l1")
    fused = weights_of(fuse(children, tmp_path / "fused", spec, base=family / "base"))
    base, states = weights_of(family / "base"), [weights_of(child) for child in children]
    assert fused.keys() == base.keys()
    for name, tensor in fused.items():
        assert torch.equal(tensor, fuse_tensor(spec, base[name], [state[name] for state in states])[0])


def test_a_fusion_has_the_first_checkpoints_files_and_says_how_it_came_about(family, children, tmp_path):
    (children[0] / "untrained.json").write_text("{}")  # scores of another model
    try:
        fused = fuse(children, tmp_path / "fused", base=family / "base")
    finally:
        (children[0] / "untrained.json").unlink()
    texts = {p.relative_to(children[0]) for p in children[0].rglob("*.json")}
    for path in texts:
        assert (fused / path).read_bytes() == (children[0] / path).read_bytes()
    assert {p.relative_to(fused) for p in fused.rglob("*.json")} - texts == {
        (fused / FUSION_FILE).relative_to(fused)
    }
    record = json.loads((fused / FUSION_FILE).read_text("utf-8"))
    assert record["method"] == "delta"
    assert record["options"] == {"exponent": 1.0, "granularity": "row", "norm": "l2"}
    assert record["origin"] == str(family / "base")
    assert [row["path"] for row in record["checkpoints"]] == [str(child) for child in children]
    weights = [row["weight"] for row in record["checkpoints"]]
    assert weights == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.01)  # as far as each was moved
    for k, row in enumerate(record["checkpoints"]):
        column = [shares[k] for shares in record["tensors"].values()]
        assert (row["lowest"], row["highest"]) == (min(column), max(column))
        assert row["lowest"] < row["weight"] < row["highest"]
        assert row["overlap"] == pytest.approx(1, abs=0.1)
    moved = [row["moved"] for row in record["checkpoints"]]
    assert moved[1] / moved[0] == pytest.approx(2, rel=0.05)
    assert set(record["tensors"]) == set(weights_of(fused))
    assert all(sum(shares) == pytest.approx(1, abs=1e-5) for shares in record["tensors"].values())


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (UNIFORM, {}),
        (FusionSpec("weighted", weights=[1.0, 2.0, 3.0]), {"weights": [1.0, 2.0, 3.0]}),
        (FusionSpec("delta", float("-inf"), "element", "max"), "-inf"),
    ],
)
def test_the_record_holds_the_options_that_the_method_reads(family, children, tmp_path, spec, options):
    fused = fuse(children, tmp_path / "fused", spec, base=family / "base")
    found = json.loads((fused / FUSION_FILE).read_text("utf-8"))["options"]
    assert (found["exponent"] if options == "-inf" else found) == options


# Forms of input and output


def test_half_precision_checkpoints_give_a_half_precision_fusion(family, children, tmp_path):
    halves = []
    for child in children:
        halves.append(shutil.copytree(child, tmp_path / child.name))
        state = {name: tensor.bfloat16() for name, tensor in weights_of(child).items()}
        save_file(state, halves[-1] / "model.safetensors", metadata={"format": "pt"})
    fused = weights_of(fuse(halves, tmp_path / "fused", base=family / "base"))
    assert {tensor.dtype for tensor in fused.values()} == {torch.bfloat16}


def test_sharded_checkpoints_give_the_weights_of_single_files_and_so_does_a_sharded_fusion(
    family, children, tmp_path
):
    sharded = []
    for child in children:
        sharded.append(shutil.copytree(child, tmp_path / child.name))
        (sharded[-1] / "model.safetensors").unlink()
        AutoModel.from_pretrained(child).save_pretrained(sharded[-1], max_shard_size="20KB")
        assert len(list(sharded[-1].glob("*.safetensors"))) > 3
    whole = fuse(children, tmp_path / "whole", base=family / "base")
    again = fuse(sharded, tmp_path / "again", base=family / "base", max_shard_bytes=30_000)
    assert [path.name for path in whole.glob("*.safetensors")] == ["model.safetensors"]
    files = sorted(path.name for path in again.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    expected = weights_of(whole)
    assert_weights(again, expected, tolerance=0)
    index = json.loads((again / "model.safetensors.index.json").read_text("utf-8"))
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    loaded = AutoModel.from_pretrained(again).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_the_base_may_be_a_language_model_with_a_head_and_another_prefix(family, children, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(family / "base")
    model.save_pretrained(tmp_path / "lm")
    AutoTokenizer.from_pretrained(family / "base").save_pretrained(tmp_path / "lm")
    names = set(weights_of(tmp_path / "lm"))
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" in names
    fused = fuse(children, tmp_path / "fused", base=tmp_path / "lm")
    expected = fuse(children, tmp_path / "expected", base=family / "base")
    assert_weights(fused, weights_of(expected), tolerance=0)


def test_a_pooler_that_the_base_lacks_is_the_first_checkpoints(byte_level, tmp_path):
    folder = export_family(tmp_path, byte_level, "bert")
    state = weights_of(folder / "base")
    without = {name: tensor for name, tensor in state.items() if "pooler" not in name}
    assert len(without) == len(state) - 2
    save_file(without, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    fused = weights_of(fuse([folder / "child1", folder / "child2"], tmp_path / "fused", base=folder / "base"))
    first = weights_of(folder / "child1")
    assert all(torch.equal(fused[name], first[name]) == ("pooler" in name) for name in fused)


def test_a_run_folder_stands_for_its_export(family, children, tmp_path):
    for number in (0, 1):
        (tmp_path / f"run{number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"run{number}" / "export").symlink_to(children[number])
    fused = fuse([tmp_path / "run0", tmp_path / "run1"], tmp_path / "fused", UNIFORM)
    assert_weights(fused, mean_of(children[:2]))


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("base_from", ["adapter", "option"])
def test_lora_adapters_are_merged_as_peft_merges_them(family, tmp_path, rslora, base_from):
    adapters, merged = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", use_rslora=rslora)
        model = get_peft_model(AutoModel.from_pretrained(family / "base"), lora)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1)
        adapters.append(tmp_path / f"adapter{seed}")
        model.save_pretrained(adapters[-1])
        if base_from == "option":
            config = json.loads((adapters[-1] / "adapter_config.json").read_text("utf-8"))
            config["base_model_name_or_path"] = "owner/not-here"
            (adapters[-1] / "adapter_config.json").write_text(json.dumps(config), "utf-8")
        again = PeftModel.from_pretrained(AutoModel.from_pretrained(family / "base"), adapters[-1])
        merged.append(again.merge_and_unload().state_dict())
    fused = fuse(adapters, tmp_path / "fused", UNIFORM, base=family / "base")
    assert_weights(fused, {name: (merged[0][name] + merged[1][name]) / 2 for name in merged[0]}, 1e-6)
    base = weights_of(family / "base")
    assert not torch.allclose(
        weights_of(fused)["layers.0.mlp.up_proj.weight"], base["layers.0.mlp.up_proj.weight"]
    )
    assert not list(fused.glob("adapter*"))


def test_an_adapter_may_be_fused_with_a_full_checkpoint(family, children, tmp_path):
    model = get_peft_model(
        AutoModel.from_pretrained(family / "base"), LoraConfig(r=2, target_modules="all-linear")
    )
    model.save_pretrained(tmp_path / "adapter")  # new, hence without effect
    fused = fuse([children[0], tmp_path / "adapter"], tmp_path / "fused", UNIFORM)
    assert_weights(fused, mean_of([children[0], family / "base"]))


def test_integer_tensors_that_agree_are_kept(children, tmp_path):
    copies = []
    for child in children[:2]:
        copies.append(shutil.copytree(child, tmp_path / child.name))
        state = weights_of(child) | {"positions": torch.arange(5), "flags": torch.tensor([True, False])}
        save_file(state, copies[-1] / "model.safetensors", metadata={"format": "pt"})
    fused = weights_of(fuse(copies, tmp_path / "fused", UNIFORM))
    assert torch.equal(fused["positions"], torch.arange(5))
    assert torch.equal(fused["flags"], torch.tensor([True, False]))


# Checkpoints that share no initialisation


def test_a_checkpoint_that_was_not_trained_from_the_base_is_warned_of(
    byte_level, family, children, tmp_path, caplog
):
    torch.manual_seed(1)
    stranger = load_encoder(tiny.tiny_spec("qwen3", byte_level))
    path = shutil.copytree(children[1], tmp_path / "stranger")
    stranger.backbone.save_pretrained(path)
    caplog.clear()
    fuse(children, tmp_path / "fused", base=family / "base")
    fuse(children, tmp_path / "fused", UNIFORM)
    assert not caplog.records
    for base in (family / "base", None):
        caplog.clear()
        fuse([children[0], path], tmp_path / "fused", UNIFORM, base=base)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"{path} has next to nothing in common with {base or children[0]}" in caplog.text
