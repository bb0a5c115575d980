"""Buffers, heads, poolers and prefixes make no two models of one."""

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


@pytest.fixture(scope="module")
def expected(berts, tmp_path_factory):
    checkpoints = [berts / "child1", berts / "child2"]
    return weights_of(fuse(checkpoints, tmp_path_factory.mktemp("fused") / "expected", base=berts / "base"))


# every change on the checkpoint that decides the layout, those of three kinds on the other sides, too
SIDES = [(change, "first") for change in CHANGES]
SIDES += [
    (change, side)
    for change in ("prefix and heads", "prefix, buffer", "no pooler")
    for side in ("base", "second")
]


@pytest.mark.parametrize(("change", "side"), SIDES)
def test_what_no_embedding_depends_on_changes_nothing_on_any_side(berts, expected, tmp_path, change, side):
    folders = {"base": berts / "base", "first": berts / "child1", "second": berts / "child2"}
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
