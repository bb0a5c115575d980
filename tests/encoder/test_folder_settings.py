"""What a folder states about itself wins over the config; what it does not state leaves the config alone."""

import json

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder
from codiemb.encoder.folder_settings import SETTINGS_FILE, with_folder_settings
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="module")
def export(byte_level, tmp_path_factory):
    """A causal model with last-token pooling, exported."""
    encoder = tiny.tiny_encoder(
        "qwen3",
        byte_level,
        pooling="last_token",
        attention="causal",
        append_eos=True,
        max_tokens=50,
        prompt=PromptSpec("Task: {instruction}\nText: ", "Document: "),
    )
    folder = tmp_path_factory.mktemp("folder") / "export"
    return export_sentence_transformer(encoder, folder, query_instruction="Retrieve")


def test_an_exports_settings_win_over_the_config(export):
    spec, changed = with_folder_settings(ModelSpec(path=str(export)))
    assert (spec.pooling, spec.attention, spec.append_eos, spec.max_tokens) == (
        "last_token",
        "causal",
        True,
        50,
    )
    assert spec.prompt == PromptSpec("Task: {instruction}\nText: ", "Document: ")
    assert len(changed) == 5
    assert all("model.lower_case" not in change for change in changed)
    assert "model.pooling='last_token' (config: 'mean')" in changed


def test_folder_settings_false_overrules_the_folder(export):
    spec = ModelSpec(path=str(export), folder_settings=False)
    assert with_folder_settings(spec) == (spec, [])
    encoder = load_encoder(ModelSpec(path=str(export), folder_settings=False, max_tokens=40))
    assert (encoder.pooling, encoder.attention, encoder.max_tokens) == ("mean", "bidirectional", 40)


def test_a_second_stage_exports_what_its_folder_stated_and_not_its_config(export, tmp_path):
    """The second stage's config says mean and bidirectional, the default; its folder said otherwise."""
    second = load_encoder(ModelSpec(path=str(export)))
    again = export_sentence_transformer(second, tmp_path / "export", query_instruction="Retrieve")
    for name in ("codiemb.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json"):
        assert (again / name).read_text() == (export / name).read_text(), name
    assert json.loads((again / "config.json").read_text())["is_causal"] is True


@pytest.fixture
def sentence_transformers_folder(export, tmp_path):
    """Writes a folder with sentence-transformers itself."""

    def build(pooling, *more, prompts=None, max_tokens=None, include_prompt=False):
        words = Transformer(str(export), max_seq_length=max_tokens)
        width = words.get_embedding_dimension()
        pooled = Pooling(width, pooling_mode=pooling, include_prompt=include_prompt)
        modules = [words, pooled, *more, Normalize()]
        SentenceTransformer(modules=modules, prompts=prompts).save(str(tmp_path / "st"))
        return tmp_path / "st"

    return build


@pytest.mark.parametrize(("theirs", "ours"), [("cls", "cls"), ("mean", "mean"), ("lasttoken", "last_token")])
def test_a_sentence_transformers_folder_states_its_pooling_and_prompts(
    sentence_transformers_folder, theirs, ours
):
    prompts = {"query": "search: ", "document": "text: "}
    folder = sentence_transformers_folder(theirs, prompts=prompts, include_prompt=theirs == "cls")
    spec, _ = with_folder_settings(ModelSpec(path=str(folder), pooling="cls" if ours == "mean" else "mean"))
    assert spec.pooling == ours
    assert (spec.pool_prompt, spec.prompt_apart) == ((False, False) if ours == "mean" else (True, True))
    assert spec.prompt == PromptSpec("search: ", "text: ")


LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last_token",
}


@pytest.mark.parametrize("flag", LEGACY)
def test_the_legacy_spelling_of_pooling_is_read(tmp_path, flag):
    config = {"word_embedding_dimension": 32, "pooling_mode_max_tokens": False} | dict.fromkeys(LEGACY, False)
    write(tmp_path / "1_Pooling" / "config.json", config | {flag: True})
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 77})
    spec, _ = with_folder_settings(ModelSpec(path=str(tmp_path)))
    assert spec.pooling == LEGACY[flag]
    assert spec.pool_prompt is True  # what sentence-transformers does where nothing is stated
    assert spec.max_tokens == 77


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode": "max"},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
    ],
    ids=str,
)
def test_pooling_that_we_do_not_have_is_a_user_error_and_never_silently_the_mean(tmp_path, config):
    write(tmp_path / "1_Pooling" / "config.json", config)
    with pytest.raises(UserError, match=r"pools by .*not supported; model.folder_settings=false"):
        with_folder_settings(ModelSpec(path=str(tmp_path)))


def test_a_projection_behind_the_pooling_is_a_user_error(sentence_transformers_folder):
    folder = sentence_transformers_folder("mean", Dense(32, 16))
    with pytest.raises(UserError, match="module Dense, which is not supported"):
        with_folder_settings(ModelSpec(path=str(folder)))


@pytest.mark.parametrize("stored", [{}, {"prompts": {}}, {"prompts": None}], ids=str)
def test_a_folder_without_prompts_leaves_the_configs_prompts_alone(tmp_path, stored):
    """BAAI/bge-large-zh-v1.5 and intfloat/multilingual-e5-large-instruct store none, and need theirs."""
    write(tmp_path / "config_sentence_transformers.json", stored)
    spec = ModelSpec(path=str(tmp_path), prompt=PromptSpec("为这个句子生成表示：", ""))
    assert with_folder_settings(spec) == (spec, [])


def test_a_stored_prompt_that_is_the_template_filled_in_keeps_the_template(tmp_path):
    """Qwen3-Embedding stores the prompt of one task; evaluation has an instruction for each."""
    stored = {"query": "Instruct: Given a web search query, retrieve passages\nQuery:", "document": ""}
    write(tmp_path / "config_sentence_transformers.json", {"prompts": stored})
    template = PromptSpec("Instruct: {instruction}\nQuery:", "")
    spec, _ = with_folder_settings(ModelSpec(path=str(tmp_path), prompt=template))
    instruction = "Given a web search query, retrieve passages"
    assert spec.prompt == PromptSpec(template.query, "", instruction)  # for queries that have none themselves


def test_a_stored_prompt_of_another_form_wins(tmp_path):
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "search: "}})
    spec, _ = with_folder_settings(ModelSpec(path=str(tmp_path)))
    assert spec.prompt == PromptSpec("search: ", "")


@pytest.mark.parametrize("name", ["codiemb.json", "1_Pooling/config.json", "modules.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name} is not JSON"):
        with_folder_settings(ModelSpec(path=str(tmp_path)))


def test_settings_that_an_older_or_newer_version_wrote_are_left_out(tmp_path):
    write(tmp_path / "codiemb.json", {"model": {"pooling": "cls", "flavour": "vanilla"}})
    spec, _ = with_folder_settings(ModelSpec(path=str(tmp_path)))
    assert spec.pooling == "cls"


def test_a_hub_id_that_is_not_in_the_cache_has_no_folder_to_ask():
    spec = ModelSpec(path="intfloat/multilingual-e5-large-instruct")
    assert with_folder_settings(spec) == (spec, [])


def test_a_prompt_s_name_is_not_taken_where_nobody_looks_for_it(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"model": {"pooling": "cls"}}), "utf-8")
    for spec in (
        ModelSpec(path=str(tmp_path), query_prompt_name="faq"),
        ModelSpec(path=str(tmp_path), query_prompt_name="faq", folder_settings=False),
        ModelSpec(query_prompt_name="faq"),
    ):
        with pytest.raises(UserError, match="prompt_name=faq chooses among prompts that"):
            with_folder_settings(spec)
