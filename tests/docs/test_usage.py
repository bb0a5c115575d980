"""docs/usage.md: what can run here runs and gives the trainer's embeddings; the rest is as it ran elsewhere.

LangChain, LlamaIndex and infinity do not fit this environment (pyproject.toml, `usage`). `python -m
experiments.consumers.usage` ran them in their own, and left what it saw, with a hash of the code that it ran.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from codiemb.encoder import ModelSpec, PromptSpec, load_encoder
from codiemb.evaluation.models.lkeap import ID, SECRET
from codiemb.export import export_sentence_transformer
from experiments.consumers.usage import ANSWERS, MOST, hashes, page, unexplained
from tests.support import tiny
from tests.support.lkeap_server import serving
from tests.support.pages import blocks
from tests.support.paths import ROOT

PAGE = "docs/usage.md"
QUERY, DOCUMENTS = "Where is my order?", ["The order was shipped.", "余额不足"]
INSTRUCTION = "Find the answer"  # of the page
BLOCKS = [block.text for block in blocks("python", [PAGE])]


def block(mark):
    (found,) = [text for text in BLOCKS if mark in text]
    return found


def names_of(code):
    names = {}
    exec(compile(code, PAGE, "exec"), names)
    return names


@pytest.fixture(scope="module")
def encoder(byte_level):
    prompt = PromptSpec("Instruct: {instruction}\nQuery: ", "Text: ")
    return tiny.tiny_encoder("bert", byte_level, prompt=prompt)


@pytest.fixture
def export(encoder, tmp_path, monkeypatch):
    """Where the page has it."""
    monkeypatch.chdir(tmp_path)
    return export_sentence_transformer(
        encoder, tmp_path / "outputs/finetune/export", query_instruction=INSTRUCTION
    )


def expected(encoder):
    query = encoder.encode([QUERY], instruction=INSTRUCTION, side="query")
    return query, encoder.encode(DOCUMENTS, side="document")


@pytest.mark.parametrize("mark", ["encoder.encode(", "model.similarity("])
def test_our_own_encoder_and_sentence_transformers_give_the_trainers_embeddings(export, encoder, mark):
    names = names_of(block(mark))
    for found, ours in zip((names["queries"], names["documents"]), expected(encoder), strict=True):
        np.testing.assert_allclose(found, ours, atol=MOST)


class Embeddings(BaseHTTPRequestHandler):
    """/v1/embeddings of a server that knows no prompts: all that it is sent is tokenised and pooled."""

    def do_POST(self):
        model = self.server.model
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with torch.no_grad():
            rows = model(model.tokenize(body["input"]))["sentence_embedding"].tolist()
        data = [{"index": i, "object": "embedding", "embedding": row} for i, row in enumerate(rows)]
        text = json.dumps({"object": "list", "data": data, "model": body["model"]}).encode()
        self.send_response(200 if self.path == "/v1/embeddings" else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_): ...


def served(folder):
    """What the page's code gets from such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Embeddings) as server:
        server.model = SentenceTransformer(str(folder), device="cpu")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        code = block("/v1/embeddings").replace("127.0.0.1:7997", f"127.0.0.1:{server.server_port}")
        names = names_of(code.replace("outputs/finetune/export", str(folder)))
        server.shutdown()
    return np.array(names["queries"]), np.array(names["documents"])


@pytest.mark.filterwarnings(
    "ignore:.*tokenize.*"
)  # which such servers call; sentence-transformers 6 has `preprocess`
def test_a_server_without_prompts_can_serve_the_export_that_the_page_makes_and_not_the_one_before(
    export, encoder
):
    queries, documents = expected(encoder)
    for found, ours in zip(served(export), (queries, documents), strict=True):
        assert np.abs(found - ours).max() > 1e-3  # the prompt is pooled
    assert "**cannot serve this export**" in (export / "README.md").read_text("utf-8")

    names_of(block("pool_prompt=True"))
    pooled = load_encoder(ModelSpec(path="outputs/pooled"))
    assert pooled.tokenizer.pool_prompt
    assert "gives these embeddings for texts that are sent with" in (
        export.parents[1] / "pooled/README.md"
    ).read_text("utf-8")
    for found, ours in zip(served(export.parents[1] / "pooled"), expected(pooled), strict=True):
        np.testing.assert_allclose(found, ours, atol=MOST)


def test_the_hosted_api_gets_both_sides(monkeypatch):
    monkeypatch.setenv(ID, "id")
    monkeypatch.setenv(SECRET, "secret")
    with serving() as service:
        here = f'ApiSpec(protocol="http", endpoint="127.0.0.1:{service.port}")'
        names = names_of(block("Lkeap(").replace("ApiSpec()", here))
    assert [(body["TextType"], body["Inputs"]) for body in service.bodies] == [
        ("query", [QUERY]),
        ("document", DOCUMENTS),
    ]
    assert names["documents"].shape[0] == 2


def test_the_code_that_ran_elsewhere_is_the_pages_and_every_large_difference_has_its_reason():
    found = json.loads(ANSWERS.read_text("utf-8"))
    assert found["blocks"] == hashes(), "run `python -m experiments.consumers.usage`"
    assert unexplained(found["differences"]) == []
    assert (ROOT / "experiments/consumers/usage.md").read_text("utf-8") == page(found)
    for way in ("LangChain", "LlamaIndex"):
        for export, row in found["differences"][way].items():
            assert row["index"] <= MOST, (way, export)
            assert max(row["plain, queries"], row["plain, documents"]) <= MOST, (way, export)
    for way in ("LangChain, own class", "LlamaIndex"):  # texts with line breaks and outer spaces, too
        rows = found["differences"][way].values()
        assert max(number for row in rows for number in row.values()) <= MOST, way
    for export in ("bert_mean_pooled", "qwen3_last_token"):
        row = found["differences"]["server"][export]
        assert max(number for texts, number in row.items() if not texts.startswith("spaces")) <= MOST, export


def test_a_line_break_is_a_space_to_a_wordpiece_tokenizer_and_not_to_a_byte_level_one(wordpiece, byte_level):
    """What the page says of LangChain, which turns one into the other."""
    for folder, alike in ((wordpiece, True), (byte_level, False)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        lines, spaces = (tokenizer(f"A title{end}A text")["input_ids"] for end in ("\n\n", "  "))
        assert (lines == spaces) == alike


def test_a_difference_that_nobody_explains_is_told():
    differences = {"LangChain": {"bert_mean_colon": {"plain, queries": 2e-5, "breaks, queries": 1e-6}}}
    assert unexplained(differences) == ["LangChain, bert_mean_colon, plain, queries: 2.0e-05"]
