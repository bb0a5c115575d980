"""Exports of earlier formats load as they always did, through both doors, and can be given a card.

old_exports/COMMIT/KIND holds the files that the exporter of that commit wrote otherwise than today's, and
the parts of tokenizer.json; the rest, weights included, was the same byte by byte, so today's writes it here.
4fefb67 is the first exporter, 6afe6f2 the last before other releases were told apart; an export of 2cf265f,
the last without a card, differed by nothing else.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder
from codiemb.export import Card, export_sentence_transformer, write_card
from tests.support import tiny
from tests.support.paths import ROOT

OLD = Path(__file__).parent / "old_exports"
KINDS = {
    "bert": {"prompt": PromptSpec("Instruct: {instruction}\nQuery: ", "文档：")},
    "qwen3": {
        "prompt": PromptSpec("Instruct: {instruction}\nQuery:", ""),
        "pooling": "last_token",
        "attention": "causal",
        "append_eos": True,
    },
}
TEXTS = [text for text in tiny.SENTENCES if "Query:" not in text]  # where the first format cut texts, too


@pytest.fixture(scope="module", params=KINDS)
def today(request, tmp_path_factory):
    """The encoder, and today's export of it."""
    encoder = tiny.tiny_encoder(request.param, ROOT / "tests/golden/tokenizer", **KINDS[request.param])
    folder = tmp_path_factory.mktemp("today") / request.param
    return encoder, export_sentence_transformer(
        encoder, folder, query_instruction="Find answers", instructions={"faq": "Find"}
    )


@pytest.fixture(params=["4fefb67", "6afe6f2"])
def old(request, today, tmp_path):
    """An export as that commit left it."""
    files = OLD / request.param / today[1].name
    folder = shutil.copytree(today[1], tmp_path / "old")
    (folder / "README.md").unlink()
    shutil.copytree(files, folder, dirs_exist_ok=True)
    if (parts := folder / "tokenizer_parts.json").is_file():
        tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        tokenizer |= json.loads(parts.read_text("utf-8"))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
        parts.unlink()
    return folder


def test_an_old_export_embeds_as_it_did(today, old):
    encoder, _ = today
    again, model = load_encoder(ModelSpec(path=str(old))), SentenceTransformer(str(old), device="cpu")
    for name, instruction in {"query": "Find answers", "faq": "Find", "document": ""}.items():
        expected = encoder.encode(TEXTS, instruction=instruction)
        ours, theirs = again.encode(TEXTS, instruction=instruction), model.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
        np.testing.assert_allclose(theirs, expected, atol=1e-5)


def test_an_old_export_can_be_trained_on_and_given_a_card(today, old, tmp_path):
    write_card(old, Card())
    assert "Instruct: Find answers" in (old / "README.md").read_text("utf-8")
    again = load_encoder(ModelSpec(path=str(old)))
    export = export_sentence_transformer(again, tmp_path / "again", query_instruction="Find answers")
    for name in ("modules.json", "config.json", "1_Pooling/config.json"):
        stated = [json.loads((folder / name).read_text("utf-8")) for folder in (export, today[1])]
        assert stated[0] == stated[1], name
    assert torch.equal(*(next(e.parameters()) for e in (again, today[0])))
