"""What an export tells other releases of its two libraries, as far as our own can show it."""

import json

import pytest
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoTokenizer

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder
from codiemb.export import consumers, export_cosine, export_sentence_transformer
from tests.support import tiny
from tests.support.paths import ROOT

INSTRUCTION = "Retrieve documents that answer the question"
COLON, SPACE = "Instruct: {instruction}\nQuery:", "Instruct: {instruction}\nQuery: "
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture
def export(byte_level, tmp_path):
    """An export of one of tiny's architectures or another, and the encoder."""

    def write(model_type, *, rope=None, **settings):
        architecture = tiny.ARCHITECTURES.get(model_type, tiny.ARCHITECTURES["qwen3"])
        architecture = architecture | {"model_type": model_type}
        if model_type == "qwen2":
            del architecture["head_dim"]
        if rope:
            architecture["rope_parameters"] = rope
        spec = ModelSpec(
            name="m", tokenizer=str(byte_level), max_tokens=64, architecture=architecture, **settings
        )
        encoder = load_encoder(spec)
        folder = tmp_path / "export"
        return encoder, export_sentence_transformer(encoder, folder, query_instruction=INSTRUCTION)

    return write


def read(folder, file="config.json"):
    return json.loads((folder / file).read_text("utf-8"))


# Fields that were renamed


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 1e6}, LLAMA3])
def test_renamed_fields_are_written_under_both_names_and_read_as_one(export, rope):
    _, folder = export("qwen3", attention="causal", pooling="last_token", append_eos=True, rope=rope)
    config = read(folder)
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["rope_theta"] == rope["rope_theta"]
    rest = {key: value for key, value in rope.items() if key != "rope_theta"}
    assert config["rope_scaling"] == (None if rope["rope_type"] == "default" else rest)
    assert AutoConfig.from_pretrained(folder).rope_parameters == config["rope_parameters"] == rope


def test_rotary_bases_by_kind_of_layer_have_no_second_spelling_and_are_turned_away_from_4():
    rope = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    config = {"model_type": "qwen3", "rope_parameters": rope}
    assert "rope_theta" not in consumers.spelled_twice(config)
    assert not consumers.is_right_under_4(config, "causal")


def test_further_special_tokens_have_the_name_that_both_releases_read(byte_level, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(byte_level)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|extra|>"]})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encoder = tiny.tiny_encoder("bert", tmp_path / "tokenizer")
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction=INSTRUCTION)
    config = read(folder, "tokenizer_config.json")
    assert "extra_special_tokens" not in config  # a list of them ends in a traceback under transformers 4
    assert config["additional_special_tokens"] == ["<|extra|>"]
    assert AutoTokenizer.from_pretrained(folder).extra_special_tokens == ["<|extra|>"]


# Releases that cannot be right


def as_transformers_4_reads_it(config):
    """The one line of PretrainedConfig.from_dict of 4.57 that matters here."""
    return {int(key): value for key, value in config.get("pruned_heads", {}).items()}


@pytest.mark.parametrize(
    ("model_type", "settings", "right"),
    [
        ("bert", {"pooling": "mean"}, True),
        ("qwen3", {"attention": "causal", "pooling": "last_token", "append_eos": True}, True),
        ("qwen3", {"attention": "bidirectional"}, False),
        ("youtu", {"attention": "bidirectional"}, False),
        ("youtu", {"attention": "causal", "pooling": "last_token", "append_eos": True}, False),
    ],
)
def test_transformers_4_stops_where_it_would_embed_otherwise(
    export, monkeypatch, model_type, settings, right
):
    encoder, folder = export(model_type, prompt=PromptSpec(COLON, ""), **settings)
    stated = read(folder, "config_sentence_transformers.json")
    if right:
        assert as_transformers_4_reads_it(read(folder)) == {}
        assert "requirements" not in stated
        return
    with pytest.raises(ValueError, match=rf"{encoder.attention} {model_type}\) needs transformers>=5.2"):
        as_transformers_4_reads_it(read(folder))
    assert export_cosine(encoder, folder, query_instruction=INSTRUCTION) > 1 - 1e-6
    monkeypatch.setattr(transformers, "__version__", "5.1.0")  # causal, without a word
    with pytest.raises(ImportError, match=r"transformers>=5\.2, but transformers==5\.1\.0 is installed"):
        SentenceTransformer(str(folder), device="cpu")


def test_a_refusal_does_not_outlive_its_reason(export, tmp_path):
    _, folder = export("qwen3", attention="bidirectional")
    assert read(folder)["pruned_heads"]
    again = load_encoder(ModelSpec(path=str(folder), attention="causal", folder_settings=False))
    export_sentence_transformer(again, tmp_path / "again", query_instruction=INSTRUCTION)
    assert "pruned_heads" not in read(tmp_path / "again")


def test_every_kind_that_transformers_4_may_load_stands_in_the_table_as_right():
    lines = (ROOT / "experiments/consumers/README.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    header = next(row for row in rows if row[0] == "export")
    under_4 = [number for number, title in enumerate(header) if ", T 4." in title]
    assert under_4
    for model_type, attention in consumers.RIGHT_UNDER_4:
        tried = [row for row in rows if row[0].startswith(f"{model_type}_{attention}_")]
        cells = {row[number] for row in tried for number in under_4}
        assert "right" in cells, (model_type, attention)
        assert not [cell for cell in cells if "wrong" in cell], (model_type, attention)


# Prompts


def test_an_export_names_the_releases_that_wrote_it(export):
    _, folder = export("bert")
    versions = read(folder, "config_sentence_transformers.json")["__version__"]
    assert versions["transformers"] == transformers.__version__
    assert versions.keys() == {"sentence_transformers", "transformers", "pytorch"}


@pytest.mark.parametrize(
    ("prompt", "settings", "refused"),
    [
        (COLON, {}, False),
        (SPACE, {}, True),
        ("{instruction}\n", {}, True),
        (SPACE, {"pool_prompt": True}, False),
        (SPACE, {"pooling": "cls"}, False),
        (" " + COLON, {"pooling": "cls"}, True),  # the whole text begins otherwise
    ],
)
def test_sentence_transformers_that_strips_prompts_is_turned_away_where_that_does_harm(
    export, caplog, prompt, settings, refused
):
    caplog.set_level("INFO")
    encoder, folder = export("bert", prompt=PromptSpec(prompt, ""), **settings)
    module = read(folder, "modules.json")[0]["type"]
    assert (module == "sentence_transformers.models.Transformer") != refused
    assert ("needs sentence-transformers>=5.4" in caplog.text) == refused
    assert export_cosine(encoder, folder, query_instruction=INSTRUCTION) > 1 - 1e-6


# Tokenizers that transformers rebuilds, whatever the folder states


def test_a_qwen2_export_keeps_its_prompts_apart(export):
    encoder, folder = export(
        "qwen2", attention="causal", pooling="last_token", append_eos=True, prompt=PromptSpec(SPACE, "")
    )
    assert export_cosine(encoder, folder, query_instruction=INSTRUCTION, texts=tiny.SENTENCES) > 1 - 1e-6
    trusting = export_cosine(encoder, folder, query_instruction=INSTRUCTION, trust_remote_code=True)
    assert trusting > 1 - 1e-6  # there is no code to trust
    loaded = load_encoder(ModelSpec(path=str(folder)))
    ids = [e.tokenizer([(INSTRUCTION, "How")], 64)[0].input_ids for e in (encoder, loaded)]
    assert ids[0] == ids[1]
