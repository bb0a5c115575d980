"""The exported folder gives the trainer's embeddings, through every door that a user may take."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoTokenizer

from codiemb.config.run_end import say_how_near
from codiemb.encoder import LoraSpec, ModelSpec, PromptSpec, load_encoder
from codiemb.encoder.folder_settings import FOLDER_SETTINGS
from codiemb.export import TOLERANCE, Card, export_cosine, export_sentence_transformer
from tests.support import tiny

INSTRUCTION = "Retrieve documents that answer the question"
NAMED = {"faq": "给定一个问题，检索答案", "sts": "Retrieve similar text"}


def perturbed(encoder, std=0.3):
    """A new LoRA adapter is zero, and an export that forgot it would not be noticed."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=std, generator=generator)
    return encoder


ENCODERS = [(name, pool, 0) for name in ("youtu", "qwen3", "bert") for pool in ("mean", "cls", "last_token")]
ENCODERS += [("youtu", "mean", 4), ("qwen3", "last_token", 4), ("bert", "cls", 4)]  # merged before all else


@pytest.fixture(scope="module", params=ENCODERS, ids=lambda param: "-".join(map(str, param)))
def exported(request, byte_level, tmp_path_factory):
    architecture, pooling, rank = request.param
    last = pooling == "last_token"
    encoder = tiny.tiny_encoder(
        architecture,
        byte_level,
        pooling=pooling,
        append_eos=last,
        attention="causal" if last and architecture != "bert" else "bidirectional",
        lora=LoraSpec(r=rank),
        prompt=PromptSpec(
            "Instruction: {instruction} \nQuery: ", "文档：" if architecture == "qwen3" else ""
        ),
    )
    folder = tmp_path_factory.mktemp("export") / "export"
    return perturbed(encoder), export_sentence_transformer(
        encoder, folder, query_instruction=INSTRUCTION, instructions=NAMED
    )


def smallest_cosine(ours, theirs):
    return float((ours * np.asarray(theirs)).sum(1).min())


def test_sentence_transformers_gives_the_trainers_embeddings(exported):
    encoder, folder = exported
    encoder.encode_precision = "bf16-mixed"  # of evaluations; the promise is one of fp32
    assert export_cosine(encoder, folder, query_instruction=INSTRUCTION, texts=tiny.SENTENCES) > 1 - 1e-6
    assert encoder.encode_precision == "bf16-mixed"
    encoder.encode_precision = "32-true"
    model = SentenceTransformer(str(folder), device="cpu")
    for name, instruction in {**NAMED, "query": INSTRUCTION, "document": ""}.items():
        ours = encoder.encode(tiny.SENTENCES, instruction=instruction)
        assert smallest_cosine(ours, model.encode(tiny.SENTENCES, prompt_name=name)) > 1 - 1e-6, name
    long = ["hello world 余额不足 " * 40]  # cut by both at the same token
    assert smallest_cosine(encoder.encode(long, instruction=INSTRUCTION), model.encode_query(long)) > 1 - 1e-6


def test_instructions_and_texts_matter_so_that_equality_says_something(exported):
    encoder, _ = exported
    rows = encoder.encode(tiny.SENTENCES)
    assert ((rows @ rows.T)[~np.eye(len(rows), dtype=bool)] < 1 - 1e-4).all()
    if encoder.pooling == "cls" and encoder.attention == "bidirectional":
        return
    assert smallest_cosine(rows, encoder.encode(tiny.SENTENCES, instruction=INSTRUCTION)) < 1 - 1e-4


def test_transformers_loads_it_with_the_same_weights_and_attention(exported):
    encoder, folder = exported
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == encoder.max_tokens
    with torch.no_grad():
        states = model(**tokenizer(tiny.SENTENCES[0], return_tensors="pt")).last_hidden_state[0]
    pooled = {"mean": states.mean(0), "cls": states[0], "last_token": states[-1]}[encoder.pooling]
    if encoder.tokenizer.template.document:
        return  # this tokenizer call has no prompt
    ours = torch.tensor(encoder.encode(tiny.SENTENCES[:1])[0])
    torch.testing.assert_close(torch.nn.functional.normalize(pooled, dim=0), ours, atol=1e-5, rtol=0)


def test_our_loader_embeds_the_same_way_whatever_its_config_says(exported):
    encoder, folder = exported
    loaded = load_encoder(ModelSpec(path=str(folder)))
    assert loaded.pooling == encoder.pooling
    assert loaded.attention == encoder.attention
    for instruction in (INSTRUCTION, ""):
        np.testing.assert_allclose(
            loaded.encode(tiny.SENTENCES, instruction=instruction),
            encoder.encode(tiny.SENTENCES, instruction=instruction),
            atol=1e-5,
        )


def test_nothing_in_the_folder_is_pickled_or_names_our_attention(exported):
    _, folder = exported
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    for path in folder.rglob("*.json"):
        assert "codiemb_packed" not in path.read_text("utf-8"), path
    recorded = json.loads((folder / "codiemb.json").read_text())["model"]
    assert set(recorded) == {*FOLDER_SETTINGS} - {"prompt_apart"}  # which is recorded where it is false


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"lora": LoraSpec(r=4)}], ids=["full", "lora"])
def test_an_export_of_fewer_bits_is_as_near_as_its_tolerance_says(dtype, settings, byte_level, tmp_path):
    # with adapters ten times the weights any rounding is magnified: as large as training leaves them
    encoder = perturbed(tiny.tiny_encoder("youtu", byte_level, **settings), std=0.01)
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    folder = export_sentence_transformer(encoder, tmp_path / "e", query_instruction=INSTRUCTION, dtype=dtype)
    cosine = export_cosine(encoder, folder, query_instruction=INSTRUCTION, texts=tiny.SENTENCES)
    assert 1 - TOLERANCE[dtype] < cosine < 1 - 1e-7  # it was rounded
    stored = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {getattr(torch, dtype)}
    assert json.loads((folder / "config.json").read_text("utf-8"))["torch_dtype"] == dtype
    after = encoder.state_dict()  # training may go on
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    loaded = load_encoder(ModelSpec(path=str(folder)))
    assert next(loaded.parameters()).dtype == torch.float32  # our own loader computes as its config says


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace", "qwen"])
def test_other_tokenizers_export_exactly_too(kind, tmp_path, request):
    """`qwen` is of a named class, which transformers 5 rebuilds from its vocabulary when it loads it."""
    settings = {"append_eos": True} if kind == "qwen" else {}
    encoder = tiny.tiny_encoder("youtu", request.getfixturevalue(kind), **settings)
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction=INSTRUCTION)
    assert export_cosine(encoder, folder, query_instruction=INSTRUCTION, texts=tiny.SENTENCES) > 1 - 1e-6
    again = AutoTokenizer.from_pretrained(folder)
    query = encoder.tokenizer.template.prompt("Retrieve") + "hello"
    assert again(query)["input_ids"] == encoder.tokenizer.hf(query)["input_ids"]


def test_a_prompt_that_cannot_be_kept_apart_is_warned_of_when_loading_and_when_exporting(
    metaspace, tmp_path, caplog
):
    """It ends with the instruction, so nothing marks its end: the space before a word belongs to the word."""
    caplog.set_level(logging.WARNING, "codiemb")
    prompt = PromptSpec("Instruction: {instruction}", "")
    encoder = tiny.tiny_encoder("bert", metaspace, prompt=prompt)
    caplog.clear()
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="Retrieve ")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'Instruction: Retrieve '" in caplog.text
    assert "model.pool_prompt=true" in caplog.text
    texts = ["the end", "a"]
    assert export_cosine(encoder, folder, query_instruction="Retrieve ", texts=texts) < 1 - 1e-6

    caplog.clear()
    pooled = tiny.tiny_encoder("bert", metaspace, prompt=prompt, pool_prompt=True)
    folder = export_sentence_transformer(pooled, tmp_path / "pooled", query_instruction="Retrieve ")
    assert not caplog.records
    assert export_cosine(pooled, folder, query_instruction="Retrieve ", texts=texts) > 1 - 1e-6


@pytest.mark.parametrize(
    ("prompt", "instruction", "stored"),
    [
        (("query: ", "passage: "), "", "query: "),
        (("query: ", "passage: "), "Find", "query: "),
        (("search: ", ""), "", "search: "),
        (("Do: {instruction}\n", "text: "), "", ""),
        (("Do: {instruction}\n", "text: "), "Find", "Do: Find\n"),
    ],
    ids=str,
)
def test_prompts_are_exported_by_side_with_an_instruction_and_without(
    wordpiece, tmp_path, prompt, instruction, stored
):
    encoder = tiny.tiny_encoder("bert", wordpiece, prompt=PromptSpec(*prompt), pool_prompt=True)
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction=instruction)
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert config["prompts"] == {"query": stored, "document": prompt[1]}
    model = SentenceTransformer(str(folder), device="cpu")
    for side, embed in (("query", model.encode_query), ("document", model.encode_document)):
        ours = encoder.encode(tiny.SENTENCES, side=side, instruction=instruction if side == "query" else "")
        assert smallest_cosine(ours, embed(tiny.SENTENCES)) > 1 - 1e-6, side


def test_an_export_of_which_an_embedding_is_nan_is_not_said_to_be_near(byte_level, monkeypatch, caplog):
    class Theirs:
        """Right for queries; documents overflow, as in float16."""

        def __init__(self, *_, **__): ...

        def encode_query(self, texts, **_):
            return encoder.encode(texts, side="query")

        def encode_document(self, texts, **_):
            return np.full((len(texts), 32), np.nan)

    encoder = tiny.tiny_encoder("bert", byte_level)
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", Theirs)
    cosine = export_cosine(encoder, "folder", query_instruction="")
    say_how_near(Path("folder"), cosine, TOLERANCE["float16"])
    assert "does not embed as the trained model does (cosine with its embeddings: 1 - nan" in caplog.text


def test_a_text_that_is_cut_keeps_its_prompt_whatever_the_tokenizer_says(byte_level, tmp_path, caplog):
    tokenizer = AutoTokenizer.from_pretrained(byte_level)
    tokenizer.save_pretrained(tmp_path / "left")
    path = tmp_path / "left" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"truncation_side": "left"}), "utf-8")
    encoder = tiny.tiny_encoder("bert", tmp_path / "left", max_tokens=48)
    assert "cuts long texts at their beginning, prompt first" in caplog.text
    ids, prompt_length = encoder.tokenizer([("Find", "a word " * 40)], 48, "query")[0]
    assert tokenizer.decode(ids[:prompt_length]) == encoder.prefix("Find", "query")
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="Find")
    long = ["a word " * 40 + "at the end"]  # the probes of `export.verify` are short
    assert export_cosine(encoder, folder, query_instruction="Find", texts=long) > 1 - 1e-6


def test_a_tokenizer_without_a_padding_token_is_exported_with_one(byte_level, tmp_path):
    folder = tmp_path / "model"
    tiny.tiny_encoder("qwen3", byte_level, attention="causal").backbone.save_pretrained(folder)
    AutoTokenizer.from_pretrained(byte_level).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    encoder = load_encoder(ModelSpec(path=str(folder), attention="causal"))
    vocabulary = len(encoder.tokenizer.hf)
    export = export_sentence_transformer(encoder, tmp_path / "export", query_instruction=INSTRUCTION)
    assert export_cosine(encoder, export, query_instruction=INSTRUCTION, texts=tiny.SENTENCES) > 1 - 1e-6
    again = AutoTokenizer.from_pretrained(export)
    assert (again.pad_token, len(again)) == (again.eos_token, vocabulary)


def test_a_clean_export_warns_of_nothing(byte_level, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "codiemb")
    encoder = tiny.tiny_encoder("youtu", byte_level)
    export_sentence_transformer(encoder, tmp_path / "e", query_instruction=INSTRUCTION, instructions=NAMED)
    assert not caplog.records


@pytest.mark.parametrize("broken", ["model", "tokenizer", "rename"])
def test_an_interrupted_export_leaves_the_old_folder_and_nothing_else(
    byte_level, tmp_path, monkeypatch, broken
):
    encoder = tiny.tiny_encoder("bert", byte_level)
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="one")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def fail(*_, **__):
        raise OSError("disk full")

    if broken == "rename":
        rename = os.replace
        aside = lambda old, new: ".old" in f"{old}{new}"  # noqa: E731
        monkeypatch.setattr(os, "replace", lambda old, new: rename(old, new) if aside(old, new) else fail())
    else:
        owner = encoder.backbone if broken == "model" else encoder.tokenizer.hf
        monkeypatch.setattr(type(owner), "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        export_sentence_transformer(encoder, folder, query_instruction="two")
    assert os.listdir(tmp_path) == ["export"]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_an_export_replaces_the_old_one_whole(byte_level, tmp_path):
    encoder = tiny.tiny_encoder("bert", byte_level)
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="one")
    (folder / "stale.json").write_text("{}")
    export_sentence_transformer(encoder, folder, query_instruction="two")
    assert os.listdir(tmp_path) == ["export"]
    assert not (folder / "stale.json").exists()
    assert json.loads((folder / "codiemb.json").read_text())["query_instruction"] == "two"


def test_an_export_to_a_link_replaces_the_link_and_not_what_it_points_to(byte_level, tmp_path):
    encoder = tiny.tiny_encoder("bert", byte_level)
    target = export_sentence_transformer(encoder, tmp_path / "run" / "export", query_instruction="one")
    (tmp_path / "latest").symlink_to(target)
    export_sentence_transformer(encoder, tmp_path / "latest", query_instruction="two")
    assert not (tmp_path / "latest").is_symlink()
    assert json.loads((target / "codiemb.json").read_text())["query_instruction"] == "one"


def test_an_export_leaves_the_encoder_as_it_was(byte_level, tmp_path):
    encoder = perturbed(tiny.tiny_encoder("youtu", byte_level, lora=LoraSpec(r=4)))
    names = list(encoder.state_dict())
    before = encoder.encode(tiny.SENTENCES)
    limit = encoder.tokenizer.hf.model_max_length
    export_sentence_transformer(encoder, tmp_path / "export", query_instruction=INSTRUCTION)
    assert list(encoder.state_dict()) == names
    assert encoder.tokenizer.hf.model_max_length == limit
    np.testing.assert_array_equal(encoder.encode(tiny.SENTENCES), before)


def test_trained_widths_are_stated_until_they_are_trained_no_more(byte_level, tmp_path):
    """vLLM and SGLang read them; sentence-transformers has no list, and would cut every embedding to one."""
    encoder = tiny.tiny_encoder("bert", byte_level)
    folder = export_sentence_transformer(
        encoder, tmp_path / "b", query_instruction="", card=Card(matryoshka_dims=(16, 8))
    )
    assert AutoConfig.from_pretrained(folder).matryoshka_dimensions == [16, 8]
    assert SentenceTransformer(str(folder), device="cpu").truncate_dim is None
    again = export_sentence_transformer(
        load_encoder(ModelSpec(path=str(folder))), tmp_path / "c", query_instruction=""
    )
    assert "matryoshka_dimensions" not in json.loads((again / "config.json").read_text("utf-8"))
