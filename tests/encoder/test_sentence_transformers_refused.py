"""What a model folder states and the encoder does not do is refused by name, in all of its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer

from codiemb.encoder import ModelSpec, load_encoder
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.errors import UserError
from tests.support.st_folders import (
    E5,
    OLD,
    edit,
    model,
    pooling,
    several,
    tokenizer,
    transformer,
    without_normalize,
)


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
