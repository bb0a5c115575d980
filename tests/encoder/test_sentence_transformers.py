"""What a sentence-transformers folder states is honoured, as its own loader reads it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from codiemb.encoder import ModelSpec, PromptSpec, check_path, load_encoder
from codiemb.encoder.folder_settings import with_folder_settings
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from tests.support import tiny
from tests.support.st_folders import (
    E5,
    TEXTS,
    model,
    old_layout,
    pooling,
    several,
    tokenizer,
    transformer,
    version_6,
    without_normalize,
)

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
