"""Embeddings on disk: the encoder's own, and never those of other weights, prompts, lengths or texts."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch

from codiemb.encoder import ModelSpec, load_encoder
from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from data_prep.search.embeddings import embeddings, fingerprint
from data_prep.search.encoders import CodiembEncoder, load_codiemb, load_sentence_transformers
from tests.support import tiny

LOADERS = {"codiemb": load_codiemb, "sentence-transformers": load_sentence_transformers}
# two instructions in turns, and texts of very different lengths
ROWS = [
    (f"Find {'answers' if n % 3 else 'duplicates'}", " ".join(tiny.SENTENCES[: n % 5 + 1])) for n in range(17)
]


@pytest.fixture(scope="module")
def exported(byte_level, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "export"
    encoder = tiny.tiny_encoder("bert", byte_level, max_tokens=32)
    return export_sentence_transformer(encoder, folder, query_instruction="Find answers")


@pytest.fixture
def model(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "model")


@pytest.fixture(scope="module", params=LOADERS)
def library(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(library, exported):
    """Not to be changed by a test."""
    return load(library, exported)


@pytest.fixture(scope="module")
def kept(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    embeddings(folder, ROWS, loaded, rows_per_shard=5)
    return folder


@pytest.fixture(scope="module")
def ours(exported):
    return load_codiemb(str(exported), "query")


def load(library, model):
    return LOADERS[library](str(model), "query")


def test_rows_are_the_encoders_own_in_order_and_of_length_one(loaded, kept):
    found = embeddings(kept, ROWS, loaded, rows_per_shard=5)
    one_by_one = np.concatenate([loaded.encode([row]) for row in ROWS])
    np.testing.assert_allclose(found, one_by_one, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_ours_prepends_the_instruction_of_each_row(ours, tmp_path):
    found = embeddings(tmp_path / "kept", ROWS, ours)
    encoder = ours.encoder
    for vector, (instruction, text) in zip(found, ROWS, strict=True):
        alone = encoder.encode([text], instruction=instruction, side="query")[0]
        np.testing.assert_allclose(vector, alone, atol=2e-6)


def test_half_precision_on_disk_is_the_same_rounded(ours, tmp_path):
    whole = embeddings(tmp_path / "whole", ROWS, ours)
    half = embeddings(tmp_path / "half", ROWS, ours, dtype="float16")
    np.testing.assert_array_equal(half, whole.astype(np.float16))


def test_they_are_used_again_after_a_reload_and_other_work(
    library, loaded, kept, model, tmp_path, monkeypatch
):
    expected = embeddings(kept, ROWS, loaded, rows_per_shard=5)
    moved = model.rename(tmp_path / "elsewhere")  # a model is what is in its files, not where they lie
    encoder = load(library, moved)
    encoder.encode([("", "one short text")])  # leaves its own lengths in the tokenizer
    monkeypatch.setattr(type(encoder), "encode", None)
    np.testing.assert_array_equal(embeddings(kept, ROWS, encoder, rows_per_shard=5), expected)


def test_a_model_of_the_same_name_with_other_weights_is_another_model(library, loaded, kept, model):
    """The fault of a cache that is keyed by a model's name: it serves the embeddings of the one before."""
    other = load_encoder(ModelSpec(path=str(model)))
    next(other.parameters()).data[5, 5] += 0.25  # one weight of all
    export_sentence_transformer(other, model, query_instruction="Find answers")
    with pytest.raises(UserError, match=r"encoder\.weights: ") as caught:
        embeddings(kept, ROWS, load(library, model), rows_per_shard=5)
    assert "max_tokens" not in str(caught.value)


def changed(encoder, rows, what):
    """The encoder and the rows with one thing different, and the key that must be named."""
    if what == "max_tokens":
        model = encoder.encoder if isinstance(encoder, CodiembEncoder) else encoder.model
        setattr(model, "max_tokens" if isinstance(encoder, CodiembEncoder) else "max_seq_length", 16)
        return rows, "encoder.max_tokens"
    if what == "dtype":
        (encoder.encoder if isinstance(encoder, CodiembEncoder) else encoder.model).to(torch.bfloat16)
        return rows, "encoder.dtype"
    if what == "prompt":
        encoder.side = "document"
        return [("", text) for _, text in rows], "prompts"
    if what == "template":
        holder = encoder.encoder.tokenizer if isinstance(encoder, CodiembEncoder) else encoder
        holder.template = dataclasses.replace(holder.template, query="Q: ")
        return rows, "prompts"
    if what == "order":
        return [rows[1], rows[0], *rows[2:]], "texts"
    if what == "border":  # the same characters, cut elsewhere
        return [(rows[0][0], rows[0][1] + rows[1][1][:3]), (rows[1][0], rows[1][1][3:]), *rows[2:]], "texts"
    return rows[:-1], "table.rows"


@pytest.mark.parametrize("what", ["max_tokens", "dtype", "prompt", "template", "order", "border", "fewer"])
def test_whatever_changes_an_embedding_is_named_and_refused(loaded, kept, what):
    encoder = copy.deepcopy(loaded)
    rows, key = changed(encoder, ROWS, what)
    with pytest.raises(UserError, match=rf"{key}: "):
        embeddings(kept, rows, encoder, rows_per_shard=5)


@pytest.mark.parametrize("setting", ["pooling", "attention"])
def test_settings_of_ours_are_part_of_the_fingerprint(ours, setting):
    encoder = copy.deepcopy(ours)
    before = fingerprint(ROWS, encoder)
    setattr(encoder.encoder, setting, "something else")
    assert fingerprint(ROWS, encoder) != before


def test_another_tokenizer_is_another_encoder(library, loaded, wordpiece, model):
    before = loaded.identity()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(wordpiece / name, model / name)
    assert load(library, model).identity()["tokenizer"] != before["tokenizer"]


def test_fixed_prompts_of_a_sentence_transformers_folder_and_an_own_template(model):
    encoder = load_sentence_transformers(str(model), "query", template=PromptTemplate("query: ", "passage: "))
    assert encoder.prompt("Find answers") == "query: "
    encoder.side = "document"
    assert encoder.prompt("") == "passage: "
    assert load_sentence_transformers(str(model), "query").prompt("") == encoder.model.prompts["query"] != ""


@pytest.mark.parametrize("load_one", LOADERS.values())
def test_a_model_that_is_not_there_is_one_error(load_one, tmp_path):
    with pytest.raises(UserError, match="nothing_here"):
        load_one(str(tmp_path / "nothing_here"), "query")


def test_a_model_that_gives_nan_is_refused_by_row_and_leaves_no_embeddings(ours, tmp_path):
    encoder = copy.deepcopy(ours)
    encoder.encode = lambda rows: np.where(np.arange(len(rows))[:, None] % 5 == 1, np.nan, np.ones((1, 32)))
    with pytest.raises(UserError, match="embeddings of rows 1, 6, 11, 16 are zero, NaN or infinite"):
        embeddings(tmp_path / "kept", ROWS, encoder)
