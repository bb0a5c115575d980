"""Models with code of their own: run by it, with the names that it knew, or by a class of transformers."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers.utils
from transformers import AutoConfig, AutoModel, PreTrainedModel, dynamic_module_utils
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from codiemb.encoder import Encoder, ModelSpec, PromptTemplate, load_encoder, pack_texts, pairs_probe
from codiemb.encoder.native import other_layout
from codiemb.encoder.remote_code import lent_names, no_code
from codiemb.encoder.spec import NativeSpec
from codiemb.errors import UserError
from data_prep.tokenizer import train_tokenizer
from tests.support import hub_code
from tests.support.paths import ROOT
from tests.support.tiny import SENTENCES


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory):
    """Where transformers copies such code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch):
    """Random weights know of no meaning; the tests of the probe put it back."""
    monkeypatch.setattr(pairs_probe, "MARGIN", -1.0)
    monkeypatch.setattr(pairs_probe, "LAYOUT_MARGIN", 1.0)


@pytest.fixture(scope="module")
def folder(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreTrainedModel]:
    path = tmp_path_factory.mktemp("hub") / "utu"
    return path, hub_code.write_folder(path, byte_level)


def oracle(model: PreTrainedModel, encoder: Encoder) -> np.ndarray:
    """Each text alone through the code itself, the mean of its tokens in float64."""
    rows = []
    for text in SENTENCES:
        ids = torch.tensor([encoder.tokenizer.hf(text)["input_ids"]])
        with torch.no_grad():
            rows.append(model(ids).last_hidden_state[0].double().mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()


def embedded(spec: ModelSpec, model: PreTrainedModel) -> tuple[np.ndarray, np.ndarray]:
    encoder = load_encoder(spec)
    return encoder.encode(SENTENCES, side="document"), oracle(model, encoder)


# Its own code


def test_names_are_lent_while_code_is_read_and_are_out_again_afterwards():
    before = dict(vars(transformers.utils)), set(ROPE_INIT_FUNCTIONS)

    def read_code():
        with lent_names():
            from transformers.onnx import OnnxConfig  # noqa: F401
            from transformers.utils import LossKwargs, is_torch_fx_available

            assert LossKwargs.__total__ is False
            assert not is_torch_fx_available()
            raise KeyError("out")

    with pytest.raises(KeyError, match="out"):
        read_code()
    assert (dict(vars(transformers.utils)), set(ROPE_INIT_FUNCTIONS)) == before
    assert "transformers.onnx" not in sys.modules


def test_the_default_rope_is_the_one_that_transformers_own_models_compute():
    config = AutoConfig.for_model(
        "qwen3", head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 1.6e6}
    )
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

    from codiemb.encoder.remote_code import default_rope

    theirs, factor = Qwen3RotaryEmbedding.compute_default_rope_parameters(config)
    ours, one = default_rope(config)
    assert torch.equal(ours, theirs)
    assert factor == one == 1.0


def test_code_of_4_51_embeds_here_as_it_computes_itself(folder):
    """Without its buffers computed anew, what was in memory would be its rotary frequencies."""
    path, model = folder
    ours, theirs = embedded(hub_code.spec(path, trusted=True), model)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_code_does_not_run_without_trust(folder):
    with pytest.raises(UserError, match=r"brings its own Python code; .* model\.trust_remote_code=true"):
        load_encoder(hub_code.spec(folder[0]))


def test_no_loader_gets_at_code_where_none_may_run(folder):
    with lent_names(), no_code("utu"), pytest.raises(UserError, match="utu brings its own Python code"):
        AutoConfig.from_pretrained(folder[0], trust_remote_code=True)


# A class of transformers instead


def test_native_weights_embed_as_their_own_code_does_which_is_never_read(folder, tmp_path):
    path, model = folder
    shutil.copytree(path, tmp_path / "bare", ignore=shutil.ignore_patterns("*.py"))
    ours, theirs = embedded(hub_code.spec(tmp_path / "bare", rotary="halves"), model)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_pairs_are_sorted_into_halves_and_the_other_layout_embeds_otherwise(byte_level, tmp_path):
    model = hub_code.write_folder(tmp_path, byte_level, interleaved=True)
    ours, theirs = embedded(hub_code.spec(tmp_path, rotary="pairs"), model)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    wrong, _ = embedded(hub_code.spec(tmp_path, rotary="halves"), model)
    assert np.abs(wrong - theirs).max() > 0.01


def test_weights_are_renamed_as_the_config_says(byte_level, tmp_path):
    model = hub_code.write_folder(
        tmp_path, byte_level, rename=lambda name: f"body.{name.replace('mlp', 'ffn')}"
    )
    names = {r"^body\.": "", r"\.ffn\.": ".mlp."}
    ours, theirs = embedded(hub_code.spec(tmp_path, rotary="halves", native={"names": names}), model)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_weight_that_is_left_over_is_refused_and_a_language_head_is_not(byte_level, tmp_path):
    head = {"lm_head.weight": torch.zeros(600, 32)}
    hub_code.write_folder(tmp_path / "head", byte_level, **head)
    load_encoder(hub_code.spec(tmp_path / "head", rotary="halves"))
    hub_code.write_folder(
        tmp_path / "more", byte_level, **head, **{"model.layers.1.self_attn.sink": torch.ones(4)}
    )
    with pytest.raises(UserError, match=r"1 weights left over \(model\.layers\.1\.self_attn\.sink\)"):
        load_encoder(hub_code.spec(tmp_path / "more", rotary="halves"))


def test_a_folder_of_other_sizes_is_refused(folder):
    spec = hub_code.spec(folder[0], rotary="halves")
    spec.architecture["intermediate_size"] = 64
    with pytest.raises(
        UserError, match=r"intermediate_size=48, and model\.architecture\.intermediate_size=64"
    ):
        load_encoder(spec)


def test_a_native_model_that_is_not_to_be_had_is_named_with_the_way_on(folder):
    spec = replace(hub_code.spec(folder[0], rotary="halves"), path="tencent/Youtu-Embedding")
    with pytest.raises(
        UserError, match=r"needs 'tencent/Youtu-Embedding', which is neither .* model\.path=FOLDER"
    ):
        load_encoder(spec)


def test_the_sizes_of_youtu_embedding_have_the_published_number_of_parameters():
    import yaml

    architecture = yaml.safe_load((ROOT / "conf/model/youtu_embedding.yaml").read_text("utf-8"))[
        "architecture"
    ]
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(**architecture))
    assert sum(weight.numel() for weight in model.parameters()) == 2_410_289_152


# The sentences that are asked at load


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, ModelSpec]:
    """A model that was taught, on the sentences asked, to tell meaning from words: that takes their order."""
    texts = [text for triple in pairs_probe.TRIPLES for text in triple]
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(SENTENCES * 4 + texts * 2, tokenizer, vocab_size=400)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "initializer_range": 0.08}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
    architecture = {"model_type": "qwen3", "max_position_embeddings": 64, **sizes, **heads}
    torch.manual_seed(0)
    encoder = load_encoder(ModelSpec(tokenizer=str(tokenizer), architecture=architecture, max_tokens=64))
    pack = pack_texts(encoder.tokenizer([("", text) for text in texts], 64), torch.device("cpu"))
    first = torch.arange(0, len(texts), 3)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3)
    for _ in range(35):
        rows = encoder(pack).last_SD
        cosines = (rows[first] @ rows.T).index_put((torch.arange(len(first)), first), torch.tensor(-1e9))
        torch.nn.functional.cross_entropy(cosines / 0.05, first + 1).backward()
        optimizer.step()
        optimizer.zero_grad()
    spec = ModelSpec(path="trained", architecture=architecture, native=NativeSpec("halves"))
    return encoder.eval(), spec


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, no_probe):
    monkeypatch.undo()


def test_a_right_layout_passes_and_a_wrong_one_is_named_where_word_order_matters(trained, probe):
    """Related sentences stay related in the wrong layout (a margin over unrelated ones would not find it)."""
    encoder, spec = trained
    pairs_probe.check_native(encoder, spec)
    before = {name: weight.clone() for name, weight in encoder.backbone.state_dict().items()}
    with other_layout(encoder.backbone, spec):
        wrong = pairs_probe.means(encoder)
        assert wrong.related - wrong.unrelated > pairs_probe.MARGIN
        with pytest.raises(
            UserError, match=r"model\.native\.rotary=halves tells meaning from mere words better"
        ):
            pairs_probe.check_native(encoder, replace(spec, native=NativeSpec("pairs")))
    assert all(torch.equal(weight, before[name]) for name, weight in encoder.backbone.state_dict().items())


def test_cosines_that_were_published_must_come_out(trained, probe, monkeypatch):
    encoder, spec = trained
    monkeypatch.setattr(pairs_probe, "LAYOUT_MARGIN", 1.0)
    query, *documents = (triple[0] for triple in pairs_probe.TRIPLES)
    documents += [triple[2] for triple in pairs_probe.TRIPLES]
    rows = encoder.encode([query, *documents], side="document")
    example = {
        "instruction": "",
        "query": query,
        "documents": documents,
        "cosines": (rows[1:] @ rows[0]).tolist(),
    }
    spec = replace(spec, native=NativeSpec("halves", example=example))
    encoder.tokenizer.template = PromptTemplate(query="")
    pairs_probe.check_native(encoder, spec)
    with (
        other_layout(encoder.backbone, spec),
        pytest.raises(UserError, match=r"differ by up to 0\.\d+ .* model\.native\.rotary=halves meets them"),
    ):
        pairs_probe.check_native(encoder, replace(spec, native=replace(spec.native, rotary="pairs")))


def test_weights_that_mean_nothing_are_refused(folder, probe):
    with pytest.raises(
        UserError, match=r"related sentences have a mean cosine of .* not what model\.native takes"
    ):
        load_encoder(hub_code.spec(folder[0], rotary="halves"))
