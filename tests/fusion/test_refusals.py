"""Folders that cannot be fused are refused with one message, before any work, and nothing is left behind."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from codiemb.errors import UserError
from codiemb.fusion import FusionSpec, check_fusion, fuse
from tests.support.family import weights_of

UNIFORM = FusionSpec("uniform")


@pytest.fixture
def refused(tmp_path):
    """The message of the UserError that a fusion dies of, checked to leave no trace."""

    def message(checkpoints, spec=UNIFORM, base=None):
        out = tmp_path / "out" / "fused"
        with pytest.raises(UserError) as error:
            fuse(checkpoints, out, spec, base=base)
        assert not out.parent.exists() or not os.listdir(out.parent)
        return str(error.value)

    return message


# Options


@pytest.mark.parametrize(
    ("spec", "num_checkpoints", "base", "message"),
    [
        (FusionSpec("ties"), 2, "b", "fuse.method='ties' is none of delta, uniform, weighted"),
        (FusionSpec(granularity="layer"), 2, "b", "fuse.granularity='layer' is none of tensor, row, element"),
        (FusionSpec(norm="l3"), 2, "b", "fuse.norm='l3' is none of l1, l2, max"),
        (FusionSpec(exponent=float("nan")), 2, "b", "fuse.exponent=nan must be a number"),
        (FusionSpec(), 2, None, "fuse.method=delta measures how far each checkpoint moved: set fuse.base="),
        (UNIFORM, 1, None, "fuse.checkpoints=[a] is one folder: set fuse.base=FOLDER"),
        (UNIFORM, 0, None, "fuse.checkpoints=[a,b,...] needs at least one folder; there is none"),
        (
            FusionSpec("uniform", scale=0.5),
            2,
            None,
            "fuse.scale=0.5 is a share of the way",
        ),
        (FusionSpec(scale=1.5), 1, "b", "fuse.scale=1.5 must lie in 0..1"),
        (FusionSpec(scale=float("nan")), 1, "b", "fuse.scale=nan must lie in 0..1"),
        (FusionSpec(scale_exponent=float("inf")), 1, "b", "fuse.scale_exponent=inf must be a finite number"),
        (FusionSpec("weighted"), 2, None, "fuse.weights=[] must have one number for each of 2 checkpoints"),
        (
            FusionSpec("weighted", weights=[1.0, 2.0, 3.0]),
            2,
            None,
            "fuse.weights=[1.0, 2.0, 3.0] must have one number",
        ),
        (
            FusionSpec("weighted", weights=[1.0, -2.0]),
            2,
            None,
            "fuse.weights=[1.0, -2.0] must be finite numbers >= 0",
        ),
        (
            FusionSpec("weighted", weights=[0.0, 0.0]),
            2,
            None,
            "fuse.weights=[0.0, 0.0] must be finite numbers >= 0",
        ),
        (FusionSpec("weighted", weights=[float("inf"), 1.0]), 2, None, "must be finite numbers >= 0"),
    ],
)
def test_impossible_options_are_named_with_what_is_possible(spec, num_checkpoints, base, message):
    with pytest.raises(UserError) as error:
        check_fusion(spec, ["a", "b", "c"][:num_checkpoints], base)
    assert message in str(error.value)


# Folders


def test_what_is_no_model_folder_is_named(children, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "last.ckpt").write_bytes(b"")
    for path, problem in [("nowhere", "is no folder"), ("empty", "has no config.json")]:
        assert refused([children[0], tmp_path / path]).startswith(f"{tmp_path / path} {problem}: give an exp")
        assert f"{tmp_path / path} {problem}" in refused(children, FusionSpec(), base=tmp_path / path)
    assert "has no config.json" in refused([children[0], tmp_path / "run"])
    assert "last.ckpt is no folder" in refused([children[0], tmp_path / "last.ckpt"])


def test_damaged_folders_are_named(children, tmp_path, refused):
    def broken(file, content):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(children[1], folder)
        if content is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(content)
        return refused([children[0], folder])

    assert "broken has neither model.safetensors nor" in broken("model.safetensors", None)
    assert "broken cannot be read as a model" in broken("model.safetensors", b"not a model")
    truncated = (children[1] / "model.safetensors").read_bytes()[:-100]
    assert "broken cannot be read as a model" in broken("model.safetensors", truncated)
    assert "config.json is not JSON" in broken("config.json", b"{")
    index = json.dumps({"weight_map": {"norm.weight": "model-00001-of-00002.safetensors"}}).encode()
    message = broken("model.safetensors.index.json", index)
    assert "names model-00001-of-00002.safetensors for norm.weight, which is not there" in message


def test_a_checkpoint_listed_twice_is_found_behind_its_link(children, tmp_path, refused):
    (tmp_path / "link").symlink_to(children[0])
    message = refused([children[0], children[1], tmp_path / "link"])
    assert message == f"fuse.checkpoints: {tmp_path / 'link'} is the same folder as {children[0]}"


# Differences


def with_weights(child, folder, change):
    copy = shutil.copytree(child, folder)
    state = weights_of(child)
    change(state)
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "config.json",
            lambda c: c.update(rms_norm_eps=1e-5),
            "in config.json: rms_norm_eps is 1e-05, not 1e-06",
        ),
        ("config.json", lambda c: c.update(is_causal=True), "in config.json: is_causal is True, not False"),
        (
            "config.json",
            lambda c: c["rope_parameters"].update(rope_theta=5),
            "in config.json: rope_parameters.rope_theta is 5, not 10000",
        ),
        ("tokenizer.json", lambda t: t["model"]["vocab"].update(the=7), "model.vocab.the is 7, not "),
        (
            "tokenizer.json",
            lambda t: t["model"]["vocab"].pop("a"),
            "in tokenizer.json: model.vocab.a is missing",
        ),
        (
            "tokenizer.json",
            lambda t: t["model"]["merges"].reverse(),
            "in tokenizer.json: model.merges.0.0 is ",
        ),
        (
            "tokenizer.json",
            lambda t: t.update(normalizer={"type": "NFC"}),
            "normalizer is {'type': 'NFC'}, not",
        ),
        (
            "codiemb.json",
            lambda s: s["model"].update(pooling="cls"),
            "in codiemb.json: pooling is cls, not mean",
        ),
        (
            "codiemb.json",
            lambda s: s["model"]["prompt"].update(document="x"),
            "in codiemb.json: prompt.document is x, not 文档：",
        ),
    ],
)
def test_the_first_key_that_differs_is_named_with_both_values(
    children, edited, refused, file, change, message
):
    text = refused([children[0], edited(file, change)])
    assert message in text
    assert text.count("\n") == 0


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda c: c.update(transformers_version="4.40", _name_or_path="x", use_cache=True)),
        ("config.json", lambda c: c.pop("rms_norm_eps")),  # an older release may not write a default
        ("tokenizer.json", lambda t: t.update(truncation={"max_length": 5})),
        ("codiemb.json", lambda s: s["model"].update(max_tokens=7)),
        ("codiemb.json", lambda s: s.update(instructions={"other": "task"})),
    ],
)
def test_circumstances_may_differ(children, edited, tmp_path, file, change):
    fuse([children[0], edited(file, change)], tmp_path / "fused", UNIFORM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"norm.weight": torch.ones(31)}), "weights: norm.weight is F32[31], not F32[32]"),
        (lambda s: s.update({"norm.weight": torch.ones(32).half()}), "norm.weight is F16[32], not F32[32]"),
        (lambda s: s.pop("norm.weight"), "weights: norm.weight is missing, not F32[32]"),
        (lambda s: s.update({"another": torch.ones(2)}), "weights: another is F32[2], not missing"),
    ],
)
def test_the_first_tensor_that_differs_is_named(children, tmp_path, refused, change, message):
    assert message in refused([children[0], with_weights(children[1], tmp_path / "other", change)])


def test_integer_tensors_that_differ_have_no_mean(children, tmp_path, refused):
    a, b = (
        with_weights(child, tmp_path / child.name, lambda s, n=n: s.update(steps=torch.tensor([n])))
        for n, child in enumerate(children[:2])
    )
    assert refused([a, b]) == f"{b} differs from {a} in steps: torch.int64 has no mean"


def test_weights_that_diverged_are_named(family, children, tmp_path, refused):
    for value in (float("nan"), float("inf")):
        bad = with_weights(
            children[1],
            tmp_path / f"bad{value}",
            lambda s, v=value: s["layers.1.mlp.up_proj.weight"][3].fill_(v),
        )
        message = f"{bad} has NaN or infinity in layers.1.mlp.up_proj.weight: did its training diverge?"
        assert refused([children[0], bad]) == message
        for exponent in (-1.0, 1.0):
            assert refused([children[0], bad], FusionSpec("delta", exponent), family / "base") == message
        assert refused(children, FusionSpec(), base=bad) == message


def test_a_base_of_another_kind_is_refused(family, children, edited, tmp_path, refused):
    def with_base(base):
        return refused(children, FusionSpec(), base=base)

    base = edited("config.json", lambda c: c.update(model_type="llama"))
    assert "in config.json: model_type is qwen3, not llama" in with_base(base)
    short = with_weights(family / "base", tmp_path / "short", lambda s: s.pop("norm.weight"))
    assert "in weights: norm.weight is [32], not missing" in with_base(short)
    wide = with_weights(
        family / "base", tmp_path / "wide", lambda s: s.update({"norm.weight": torch.ones(9)})
    )
    assert "in weights: norm.weight is [32], not [9]" in with_base(wide)


def test_a_base_with_another_vocabulary_is_refused(children, edited, refused):
    def swap(tokenizer):
        vocab = tokenizer["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]

    base = edited("tokenizer.json", swap)
    assert f"differs from {base} in tokenizer.json: a is " in refused(children, FusionSpec(), base=base)


def test_a_module_with_weights_of_its_own_is_refused(children, edited, refused):
    folder = edited(
        "modules.json", lambda m: m.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "Dense"})
    )
    (folder / "3_Dense").mkdir()
    save_file({"linear.weight": torch.ones(2, 2)}, folder / "3_Dense" / "model.safetensors")
    assert "3_Dense/model.safetensors: a module with weights of its own" in refused([folder, children[0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora=True, which is not merged here; merge it with peft"),
        ({"peft_type": "LOHA"}, "peft_type='LOHA'"),
        ({"modules_to_save": ["norm"]}, "modules_to_save=['norm']"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern={'q_proj': 3}"),
        (
            {"base_model_name_or_path": "owner/elsewhere"},
            "'owner/elsewhere', which is no folder here; set fuse.base",
        ),
    ],
)
def test_an_adapter_that_is_more_than_plain_lora_is_refused(
    family, children, tmp_path, refused, change, message
):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = get_peft_model(
        AutoModel.from_pretrained(family / "base"), LoraConfig(r=2, target_modules=["q_proj"])
    )
    model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    assert message in refused([children[0], tmp_path / "adapter"])


# Nothing half-written


def test_an_interrupted_fusion_leaves_the_old_folder_and_nothing_else(children, tmp_path, monkeypatch):
    folder = fuse(children, tmp_path / "out" / "fused", UNIFORM)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    calls = []

    def disk_full(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 2:
            raise OSError("disk full")
        save_file(*arguments, **options)

    monkeypatch.setattr("codiemb.fusion.shards.save_file", disk_full)
    with pytest.raises(OSError, match="disk full"):
        fuse(children[:2], folder, UNIFORM, max_shard_bytes=1000)
    assert os.listdir(folder.parent) == ["fused"]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
