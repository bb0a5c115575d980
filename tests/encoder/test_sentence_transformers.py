"""What a sentence-transformers folder states is honoured, as its own loader reads it, or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer

from codiemb.encoder import ModelSpec, PromptSpec, check_path, load_encoder, model_files
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny

TEXTS = [*tiny.SENTENCES, "How Do I RESET My Password?", "hello world " * 60]
E5 = {"query": "query: ", "document": "passage: "}
OLD = "sentence_transformers.models."


def edit(path: Path, **values: Any) -> None:
    """Change keys of a JSON object, or write it; None takes a key out."""
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    after = {key: value for key, value in (before | values).items() if value is not None}
    path.write_text(json.dumps(after), "utf-8")


@pytest.fixture(scope="module")
def plain(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder, and nothing of sentence-transformers."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    tiny.tiny_encoder("bert", byte_level).backbone.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(byte_level / name, folder / name)
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """E5's layout as sentence-transformers 2 to 5 wrote it: mean pooling with the prompt, two prompts."""
    out = tmp_path / "model"
    shutil.copytree(plain, out)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    entries = [{"idx": int(n), "name": n, "path": path, "type": OLD + kind} for n, path, kind in modules]
    (out / "modules.json").write_text(json.dumps(entries))
    edit(out / "1_Pooling/config.json", word_embedding_dimension=32, pooling_mode_mean_tokens=True)
    edit(out / "sentence_bert_config.json", max_seq_length=40, do_lower_case=False)
    edit(out / "config_sentence_transformers.json", prompts=E5, default_prompt_name=None)
    return out


def old_layout(folder: Path) -> None:
    """The transformer in a folder of its own, and its settings under the name of its architecture."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(inner / name)
    (folder / "sentence_bert_config.json").rename(inner / "sentence_roberta_config.json")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


def version_6(folder: Path) -> None:
    """Written by the installed release itself."""
    SentenceTransformer(str(folder), device="cpu").save(str(folder))
    assert "modality_config" in (folder / "sentence_bert_config.json").read_text()


def without_normalize(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))


def pooling(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=None, **values)


def transformer(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "sentence_bert_config.json", **values)


def model(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config_sentence_transformers.json", **values)


def tokenizer(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", **values)


def several(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: [change(folder) for change in changes] and None


ACCEPTED: dict[str, Callable[[Path], None]] = {
    "as it is": several(),
    "0_Transformer": old_layout,
    "version 6": version_6,
    "no Normalize": without_normalize,
    "cls": pooling(pooling_mode_cls_token=True),
    "cls, new": pooling(pooling_mode="cls"),
    "cls, as a list": pooling(pooling_mode=["cls"]),
    "mean over the root of the length": pooling(pooling_mode_mean_sqrt_len_tokens=True),
    "last token": pooling(pooling_mode_lasttoken=True),
    "no mode": pooling(),
    "without the prompt": pooling(pooling_mode="mean", include_prompt=False),
    "last token without the prompt": pooling(pooling_mode="lasttoken", include_prompt=False),
    "cls without the prompt, no prompt": several(
        pooling(pooling_mode="cls", include_prompt=False), model(prompts={})
    ),
    "lower case": transformer(do_lower_case=True),
    "limit of the tokenizer": several(transformer(max_seq_length=None), tokenizer(model_max_length=12)),
    "limit of the model": several(transformer(max_seq_length=None), tokenizer(model_max_length=None)),
    "limit in tokenizer_args": transformer(tokenizer_args={"model_max_length": 9}),
    "limit in processor_kwargs": transformer(
        processor_kwargs={"model_max_length": 9, "padding_side": "right"}
    ),
    "harmless arguments": transformer(model_args={"attn_implementation": "eager"}, config_args={}),
    "no prompts": model(prompts={}),
    "only a query prompt": model(prompts={"query": "Represent this sentence: "}),
    "null as a prompt": model(prompts={"query": "query: ", "document": None}),
    "prompts of other tasks": model(prompts={**E5, "clustering": "cluster: "}),
    "a default prompt": model(default_prompt_name="query"),
    "an empty passage": model(prompts={**E5, "document": "", "passage": "passage: "}),
    "dot product of unit vectors": model(similarity_fn_name="dot"),
    "unknown similarity": model(similarity_fn_name="maxsim"),
}


@pytest.mark.parametrize("layout", ACCEPTED)
def test_an_accepted_layout_embeds_as_sentence_transformers_does(folder: Path, layout: str):
    ACCEPTED[layout](folder)
    wrong = {"pooling": "last_token", "max_tokens": 64, "prompt": PromptSpec("", "")}
    check_path(ModelSpec(path=str(folder)))
    encoder = load_encoder(ModelSpec(path=str(folder), **wrong))
    theirs = SentenceTransformer(str(folder), device="cpu")
    for side, embed in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        expected_SD = embed(TEXTS, normalize_embeddings=True)
        cosine_S = (encoder.encode(TEXTS, side=side) * np.asarray(expected_SD)).sum(1)
        assert cosine_S.min() > 1 - 1e-6, side


def test_these_layouts_are_different_models(folder: Path, tmp_path: Path):
    """Else equality would say nothing: each of these changes some embedding."""

    def embed(model: Path) -> np.ndarray:
        encoder = load_encoder(ModelSpec(path=str(model)))
        return np.concatenate([encoder.encode(TEXTS, side=side) for side in ("query", "document")])

    before_SD = embed(folder)
    for layout in ("cls", "last token", "without the prompt", "lower case", "limit in tokenizer_args"):
        changed = Path(shutil.copytree(folder, tmp_path / layout))
        ACCEPTED[layout](changed)
        assert (embed(changed) * before_SD).sum(1).min() < 1 - 1e-4, layout


def test_the_export_of_a_folder_whose_tokens_straddle_the_prompt_keeps_them(folder: Path, tmp_path: Path):
    ACCEPTED["without the prompt"](folder)
    encoder = load_encoder(ModelSpec(path=str(folder)))
    assert encoder.tokenizer.prompt_apart is False
    export = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="")
    before_SD, after_SD = (
        SentenceTransformer(str(place), device="cpu").encode_query(TEXTS) for place in (folder, export)
    )
    assert (before_SD * after_SD).sum(1).min() > 1 - 1e-6
    again = load_encoder(ModelSpec(path=str(export)))
    assert (again.encode(TEXTS, side="query") * after_SD).sum(1).min() > 1 - 1e-6


def modules(*kinds: str, **more: Any) -> Callable[[Path], None]:
    entries = [{"path": f"{i}_{kind}" if i else "", "type": kind} | more for i, kind in enumerate(kinds)]
    return lambda folder: (folder / "modules.json").write_text(json.dumps(entries)) and None


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


T, P, N = (OLD + kind for kind in ("Transformer", "Pooling", "Normalize"))
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "Dense": (modules(T, P, OLD + "Dense"), "embeds with a module Dense"),
    "several": (modules(T, OLD + "WeightedLayerPooling", P), "embeds with a module WeightedLayerPooling"),
    "static": (modules(OLD + "StaticEmbedding"), "embeds with a module StaticEmbedding"),
    "CLIP": (modules(OLD + "CLIPModel"), "embeds with a module CLIPModel"),
    "Asym": (modules(OLD + "Asym", P), "embeds with a module Asym"),
    "Router": (modules("sentence_transformers.base.modules.router.Router"), "a module Router"),
    "sparse": (modules(T, "sentence_transformers.sparse_encoder.models.SpladePooling"), "SpladePooling"),
    "own code": (modules("custom_st.Transformer", P), "embeds with a module custom_st.Transformer"),
    "no pooling": (modules(T, N), "the modules are Transformer, Normalize; supported are"),
    "nothing": (modules(), "the modules are none"),
    "pooled twice": (modules(T, P, P), "the modules are Transformer, Pooling, Pooling"),
    "kwargs": (modules(T, P, kwargs=["task"]), r"takes kwargs=\['task'\]"),
    "outside": (modules(T, P, path="../other"), r"path '\.\./other' leaves the folder"),
    "type": (written("modules.json", '[{"path": ""}]'), "a module without type"),
    "entry": (written("modules.json", "[5]"), "5 must be an object with type and path"),
    "list": (written("modules.json", "{}"), "modules.json must hold a list, not an object"),
    "path": (written("modules.json", '[{"type": "a.Transformer", "path": 5}]'), "path=5 must be a string"),
    "tokens": (
        several(lambda f: edit(f / "2_Normalize/config.json", module_input_name="token_embeddings")),
        "_name='token_",
    ),
    "max": (pooling(pooling_mode="max"), "pools by max"),
    "two modes": (pooling(pooling_mode_cls_token=True, pooling_mode_max_tokens=True), "pools by cls and max"),
    "weighted": (pooling(pooling_mode_weightedmean_tokens=True), "pools by weightedmean"),
    "pooling missing": (lambda f: (f / "1_Pooling/config.json").unlink(), "config.json is missing or empty"),
    "mode": (pooling(pooling_mode=5), "pooling_mode=5 must be a name or a list"),
    "flag": (pooling(pooling_mode_cls_token="yes"), "pooling_mode_cls_token='yes' must be true or false"),
    "include": (pooling(include_prompt="no"), "include_prompt='no' must be true or false"),
    "cls behind the prompt": (
        pooling(pooling_mode="cls", include_prompt=False),
        "first token behind the prompt",
    ),
    "length": (transformer(max_seq_length="long"), "max_seq_length='long' must be a whole number"),
    "length 0": (transformer(max_seq_length=0), "max_seq_length=0 must be a whole number from 1"),
    "lower": (transformer(do_lower_case=1), "do_lower_case=1 must be true or false"),
    "model_args": (transformer(model_args={"rotary_kwargs": {}}), r"model_args\.rotary_kwargs=\{\} is not"),
    "tokenizer_args": (
        transformer(tokenizer_args={"lowercase": True}),
        r"tokenizer_args\.lowercase=True is not",
    ),
    "arguments": (transformer(model_kwargs=[1]), r"model_kwargs=\[1\] must be an object"),
    "chat": (
        transformer(modality_config={"message": {"method": "forward", "method_output_name": "x"}}),
        "modality_config=.* is not supported",
    ),
    "expansion": (transformer(query_expansion={"strategy": "fixed"}), "query_expansion=.* is not supported"),
    "lengths by side": (transformer(query_length=9), "query_length=9 is not supported"),
    "task": (transformer(transformer_task="fill-mask"), "transformer_task='fill-mask' is not supported"),
    "sparse encoder": (model(model_type="SparseEncoder"), "a SparseEncoder is not supported"),
    "truncated": (model(truncate_dim=16), "truncate_dim=16 is not supported"),
    "passage": (
        model(prompts={"query": "query: ", "passage": "passage: "}),
        r"no prompt named document, but passage \('passage: '\).*model\.document_prompt_name=passage",
    ),
    "s2p": (
        model(prompts={"s2p_query": "Find: ", "s2s_query": "Match: "}),
        r"no prompt named query, but s2p_query \('Find: '\), s2s_query .*model\.query_prompt_name=s2p_query",
    ),
    "retrieval.query": (model(prompts={"retrieval.query": "q: "}), r"but retrieval\.query \('q: '\)"),
    "default": (
        model(prompts={**E5, "s2s": "x: "}, default_prompt_name="s2s"),
        "default_prompt_name='s2s' is neither",
    ),
    "no such default": (model(default_prompt_name="s2s"), "default_prompt_name='s2s' is none of its prompts"),
    "prompts": (model(prompts=["a"]), r"prompts=\['a'\] must be an object of strings"),
    "braces": (model(prompts={"query": "Instruct: {instruction} "}), "a prompt holds {instruction}"),
    "prompt": (model(prompts={"query": 5}), r"prompts=\{'query': 5\} must be an object of strings"),
    "dot": (several(without_normalize, model(similarity_fn_name="dot")), "similarity_fn_name='dot' of"),
    "manhattan": (model(similarity_fn_name="manhattan"), "similarity_fn_name='manhattan' of"),
    "similarity": (model(similarity_fn_name=5), "similarity_fn_name=5 must be a string"),
    "damaged": (written("sentence_bert_config.json", "[]"), "sentence_bert_config.json must hold an object"),
    "config": (written("config.json", "[]"), "config.json must hold an object, not a list"),
    "config cut": (written("config.json", '{"a":'), "config.json is not JSON"),
    "tokenizer": (written("tokenizer_config.json", "5"), "tokenizer_config.json must hold an object"),
    "tokenizer cut": (written("tokenizer.json", '{"a":'), "tokenizer.json is not JSON"),
    "special tokens": (tokenizer(pad_token=5), "cannot load a tokenizer from the folder .*pad_token"),
    "limit": (
        several(transformer(max_seq_length=None), tokenizer(model_max_length="x")),
        "model_max_length='x'",
    ),
    "sizes": (lambda f: edit(f / "config.json", hidden_size="x"), "cannot load a .*hidden_size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_encoder_does_not_do_is_refused_by_name(folder: Path, name: str):
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(UserError, match=message):
        load_encoder(ModelSpec(path=str(folder)))


@pytest.mark.parametrize("module", [Dense(32, 16), LayerNorm(32)], ids=lambda module: type(module).__name__)
def test_a_further_module_as_the_installed_release_writes_it_is_refused(plain: Path, tmp_path: Path, module):
    words = Transformer(str(plain))
    SentenceTransformer(modules=[words, Pooling(32), module]).save(str(tmp_path / "st"))
    with pytest.raises(UserError, match=f"embeds with a module {type(module).__name__}"):
        with_folder_settings(ModelSpec(path=str(tmp_path / "st")))


def test_prompts_of_other_names_are_taken_by_name(folder: Path):
    stored = {"s2p_query": "Find: ", "s2s_query": "Match: ", "passage": "text: "}
    model(prompts=stored)(folder)
    chosen = ModelSpec(path=str(folder), query_prompt_name="s2p_query", document_prompt_name="passage")
    assert with_folder_settings(chosen)[0].prompt == PromptSpec("Find: ", "text: ")
    encoder, theirs = load_encoder(chosen), SentenceTransformer(str(folder), device="cpu")
    for side, name in (("query", "s2p_query"), ("document", "passage")):
        expected_SD = theirs.encode(TEXTS, prompt_name=name)
        assert (encoder.encode(TEXTS, side=side) * expected_SD).sum(1).min() > 1 - 1e-6
    own = ModelSpec(
        path=str(folder), prompt=PromptSpec("mine: "), query_prompt_name="", document_prompt_name="passage"
    )
    assert with_folder_settings(own)[0].prompt == PromptSpec("mine: ", "text: ")
    with pytest.raises(UserError, match=r"query_prompt_name=query is none of the prompts .*s2p_query"):
        with_folder_settings(ModelSpec(path=str(folder), query_prompt_name="query"))


def test_a_query_without_an_instruction_gets_the_folders_own_where_the_template_is_known(folder: Path):
    """Qwen3-Embedding: encode_query has one instruction, evaluation another for every task."""
    model(prompts={"query": "Instruct: Find passages\nQuery:", "document": ""})(folder)
    template = PromptSpec("Instruct: {instruction}\nQuery:", "")
    encoder, theirs = (
        load_encoder(ModelSpec(path=str(folder), prompt=template)),
        SentenceTransformer(str(folder), device="cpu"),
    )
    assert (encoder.encode(TEXTS, side="query") * theirs.encode_query(TEXTS)).sum(1).min() > 1 - 1e-6
    prompt = "Instruct: Compare\nQuery:"
    ours_SD = encoder.encode(TEXTS, side="query", instruction="Compare")
    assert (ours_SD * theirs.encode(TEXTS, prompt=prompt)).sum(1).min() > 1 - 1e-6


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Puts the folder into a hub cache; returns its id."""

    def put() -> str:
        repository = tmp_path / "hub" / "models--owner--name"
        shutil.copytree(folder, repository / "snapshots" / ("a" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
        return "owner/name"

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model_files._snapshot.cache_clear()
    return put


@pytest.mark.parametrize("layout", ["as it is", "0_Transformer", "cls", "lower case", "version 6"])
def test_a_hub_id_in_the_cache_is_read_as_a_folder_is(folder: Path, cached, layout: str):
    ACCEPTED[layout](folder)
    path = cached()
    by_id, by_folder = (ModelSpec(path=place) for place in (path, str(folder)))
    assert with_folder_settings(by_id)[0] == ModelSpec(
        **{**vars(with_folder_settings(by_folder)[0]), "path": path}
    )
    encoder = load_encoder(by_id)
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert (encoder.encode(TEXTS, side="query") * theirs.encode_query(TEXTS)).sum(1).min() > 1 - 1e-6


@pytest.mark.parametrize("name", ["Dense", "passage", "config"])
def test_a_hub_id_in_the_cache_is_refused_as_a_folder_is(folder: Path, cached, name: str):
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(UserError, match=message):
        load_encoder(ModelSpec(path=cached()))


def test_a_hub_id_that_is_not_in_the_cache_is_asked_of_the_hub_without_its_weights(
    folder: Path, cached, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def fetch(path: str, **options: Any) -> str:
        calls.append((path, options["local_files_only"], options["allow_patterns"]))
        return str(folder)

    monkeypatch.setattr(model_files, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(model_files, "snapshot_download", fetch)
    spec, _ = with_folder_settings(ModelSpec(path="owner/name"))
    assert spec.prompt == PromptSpec(E5["query"], E5["document"])
    assert calls == [("owner/name", False, ["*.json", "adapter_model.*"])]
    model_files._snapshot.cache_clear()


def test_a_hub_that_answers_and_then_fails_is_an_error_and_not_a_model_without_settings(
    cached, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> str:
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(model_files, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(model_files, "snapshot_download", fail)
    with pytest.raises(UserError, match="settings of owner/name cannot be fetched from the hub: reset by"):
        with_folder_settings(ModelSpec(path="owner/name"))


def test_a_cache_that_may_lack_settings_is_warned_of(folder: Path, cached, caplog):
    """transformers alone fetched this model: whether it has a modules.json was never asked."""
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")
    path = cached()
    with_folder_settings(ModelSpec(path=path))
    assert "does not tell whether owner/name states its pooling and prompts" in caplog.text
    caplog.clear()
    model_files._snapshot.cache_clear()
    note = Path(constants.HF_HUB_CACHE) / "models--owner--name/.no_exist" / ("a" * 40)
    note.mkdir(parents=True)
    (note / "modules.json").write_text("")  # as huggingface_hub notes what the hub does not have
    with_folder_settings(ModelSpec(path=path))
    assert not caplog.records


def test_folder_settings_false_still_finds_the_transformer(folder: Path):
    old_layout(folder)
    spec = ModelSpec(path=str(folder), folder_settings=False, max_tokens=33)
    encoder = load_encoder(spec)
    assert (encoder.max_tokens, encoder.tokenizer.template.document) == (33, "")


def test_an_export_of_a_lower_casing_model_lower_cases(folder: Path, tmp_path: Path):
    transformer(do_lower_case=True)(folder)
    encoder = load_encoder(ModelSpec(path=str(folder)))
    export = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="")
    theirs = SentenceTransformer(str(export), device="cpu")
    upper = [text.upper() for text in tiny.SENTENCES]
    expected_SD = encoder.encode([text.lower() for text in upper], side="query")
    assert (theirs.encode_query(upper) * expected_SD).sum(1).min() > 1 - 1e-6


OWN = {
    "pooling": ("max", "pooling='max' is none of mean, cls, last_token"),
    "attention": (5, "attention=5 must be a string"),
    "prompt": ("query: ", "prompt='query: ' must be an object of strings"),
    "pool_prompt": ("yes", "pool_prompt='yes' must be true or false"),
    "append_eos": (1, "append_eos=1 must be true or false"),
    "max_tokens": (True, "max_tokens=True must be a whole number from 1"),
}


@pytest.mark.parametrize("key", OWN)
def test_a_field_of_our_own_record_with_another_type_is_named_with_its_file(tmp_path: Path, key: str):
    value, message = OWN[key]
    edit(tmp_path / "codiemb.json", model={key: value})
    with pytest.raises(UserError, match=rf"codiemb\.json: {message}"):
        with_folder_settings(ModelSpec(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must hold an object, not a list"),
        ('{"model": [1]}', r"model=\[1\] must be an object"),
        ('{"model": {"prompt": {"x": "y"}}}', r"prompt\.x is no part of a prompt"),
    ],
)
def test_our_own_record_with_another_form_is_a_user_error(tmp_path: Path, text: str, message: str):
    (tmp_path / "codiemb.json").write_text(text)
    with pytest.raises(UserError, match=message):
        with_folder_settings(ModelSpec(path=str(tmp_path)))
