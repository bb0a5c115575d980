"""The model card: what it says is what the folder does, and its snippets run."""

import re

import mteb
import numpy as np
import pytest
from huggingface_hub import ModelCard, metadata_load

from codiemb.encoder import PromptSpec
from codiemb.export import Card, DataFile, Score, export_sentence_transformer, write_card
from codiemb.export.licence import licence_of
from tests.support import tiny
from tests.support.evaluation_fakes import write_builtin_data

INSTRUCTION = "Retrieve documents that answer the question"
KINDS = {
    "mean": ("youtu", {"prompt": PromptSpec("Instruct: {instruction}\nQuery: ", "文档：")}),
    "pooled": ("bert", {"pool_prompt": True}),
    "cls": ("bert", {"pooling": "cls"}),
    "last": ("qwen3", {"pooling": "last_token", "append_eos": True, "attention": "causal"}),
}


@pytest.fixture(params=KINDS)
def exported(request, byte_level, tmp_path):
    architecture, settings = KINDS[request.param]
    encoder = tiny.tiny_encoder(architecture, byte_level, **settings)
    card = Card(matryoshka_dims=(16, 8)) if request.param == "mean" else None
    return encoder, export_sentence_transformer(
        encoder,
        tmp_path / "export",
        query_instruction=INSTRUCTION,
        instructions={"faq": "Find"},
        by_task={"FramesSTS": ("same?", "text")},
        card=card,
    )


def snippets(folder):
    return re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text("utf-8"), re.M | re.S)


def test_every_snippet_runs_and_gives_the_trainers_embeddings(exported, tmp_path, monkeypatch):
    from codiemb.evaluation import builtin_tasks

    encoder, folder = exported
    write_builtin_data(tmp_path)
    task = next(t for t in builtin_tasks(tmp_path, "test") if t.metadata.name == "FramesSTS")
    monkeypatch.setattr(mteb, "get_tasks", lambda tasks: [task])  # the one it names lies on the hub
    monkeypatch.chdir(folder.parent)
    names = {}
    for snippet in snippets(folder):
        exec(compile(snippet, "README.md", "exec"), names)
    query, document = "Where is my order?", "The order was shipped."
    ours = np.concatenate(
        [
            encoder.encode([query], instruction=INSTRUCTION, side="query"),
            encoder.encode([document], side="document"),
        ]
    )
    plain = np.stack([names[name].numpy() for name in ("query", "document")])
    np.testing.assert_allclose(plain, ours, atol=1e-5)
    np.testing.assert_allclose(names["queries"][1], ours[0], atol=1e-5)  # through sentence-transformers
    if "short" in names:
        assert names["short"].get_embedding_dimension() == 8


def test_the_card_lists_every_prompt_and_the_settings_in_effect(exported):
    encoder, folder = exported
    text = (folder / "README.md").read_text("utf-8")
    template = encoder.tokenizer.template
    for name, prompt in {
        "query": template.prompt(INSTRUCTION, "query"),
        "faq": template.prompt("Find", "query"),
        "FramesSTS": template.prompt("same?", "text"),
    }.items():
        shown = prompt.replace("\n", r"\n")
        assert re.search(rf"^\| `{name}` \| .* \| `{re.escape(shown)}` \|$", text, re.M), name
    assert f"attention is {encoder.attention}; embeddings are pooled by {encoder.pooling}" in text
    assert f"Texts are cut at {encoder.max_tokens} tokens" in text
    pooled = encoder.pooling != "mean" or encoder.tokenizer.pool_prompt
    assert ("**cannot serve this export**" in text) != pooled  # tests/docs/test_usage.py asks such a server
    assert ("infinity 0.0.78 cannot load it" in text) == (encoder.backbone.config.model_type == "youtu")


def test_the_hub_can_read_the_card_and_its_scores(byte_level, tmp_path):
    encoder = tiny.tiny_encoder("bert", byte_level)
    card = Card(
        name="somebody/model",
        repo="somebody/model",
        base_model="owner/base",
        licence="mit",
        licence_source="So says the base.",
        data=(DataFile("faq", "data/faq.jsonl", "1,200", "data/manifest.json, sha256 0123"),),
        losses={"ir.info_nce": "1.0 x InfoNCE(temperature=0.02)"},
        settings={"steps": "150"},
    )
    folder = export_sentence_transformer(encoder, tmp_path / "export", query_instruction="q", card=card)
    assert "Not evaluated." in (folder / "README.md").read_text("utf-8")
    score = Score("FramesSTS", "STS", "cosine_spearman", 0.5625, "abc")
    write_card(folder, Card(**{**vars(card), "results": "| FramesSTS | 56.25 |\n", "scores": (score,)}))
    read = ModelCard.load(folder / "README.md")
    assert (read.data.license, read.data.base_model, read.data.model_name) == (
        "mit",
        "owner/base",
        "somebody/model",
    )
    (result,) = read.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == (
        "FramesSTS",
        "cosine_spearman",
        56.25,
    )
    for stated in ("| FramesSTS | 56.25 |", "sha256 0123", "InfoNCE(temperature=0.02)", "| steps | 150 |"):
        assert stated in read.text
    assert 'SentenceTransformer("somebody/model")' in read.text


@pytest.mark.parametrize(
    ("head", "licence", "base_model"),
    [
        ("license: apache-2.0\nbase_model: owner/older\n", "apache-2.0", "owner/older"),
        ("tags: [x]\n", "unknown", None),
        ("license: [\n", "unknown", None),  # no YAML
        (None, "unknown", None),
    ],
)
def test_the_licence_is_that_of_the_bases_card(head, licence, base_model, tmp_path):
    if head is not None:
        (tmp_path / "README.md").write_text(f"---\n{head}---\n# A model\n", "utf-8")
    found = licence_of(str(tmp_path))
    assert (found.name, found.base_model) == (licence, base_model)
    assert str(tmp_path) not in found.source  # a card is read elsewhere


def test_the_licence_of_an_export_reaches_the_export_trained_from_it(byte_level, tmp_path):
    encoder = tiny.tiny_encoder("bert", byte_level)
    card = Card(licence="mit", base_model="owner/base")
    folder = export_sentence_transformer(encoder, tmp_path / "a", query_instruction="", card=card)
    assert metadata_load(folder / "README.md")["license"] == "mit"
    assert licence_of(str(folder))[::2] == ("mit", "owner/base")
    assert licence_of(None).name == "unknown"
