"""Mined negatives: near the query, known to be nothing better, the same after a kill and from a cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from codiemb.encoder.tokenization import PromptTemplate
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from data_prep.mining import searchers
from data_prep.options import build
from data_prep.runner import load_step, run_step
from data_prep.search.encoders import with_prompts
from data_prep.steps import mine as mine_module
from tests.support import tiny
from tests.support.killed import killed_at
from tests.support.sources import make_source

WORDS = ["marathon", "stairs", "kettle", "river", "winter", "ladder", "copper", "violet", "harbour", "engine"]
DOCUMENTS = {
    f"d{i:02d}": f"{WORDS[i % 10]} {WORDS[(i // 2) % 10]} {WORDS[(i * 7) % 10]} number {i}" for i in range(24)
}
QUERIES = {f"q{i}": f"where is the {WORDS[i]} {WORDS[(i + 3) % 10]}" for i in range(10)}
QRELS = [(f"q{i}", f"d{2 * i:02d}") for i in range(10)] + [("q1", "d15")]


@pytest.fixture(scope="module")
def encoder(byte_level, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mine") / "export"
    return export_sentence_transformer(
        tiny.tiny_encoder("bert", byte_level, max_tokens=32), folder, query_instruction=""
    )


@pytest.fixture
def source(tmp_path):
    documents = [{"id": key, "text": text} for key, text in DOCUMENTS.items()]
    documents[5] |= {"dropped_by": "clean", "reason": "empty"}
    documents += [{"id": "copy", "text": DOCUMENTS["d00"].upper()}]  # of the positive of q0
    queries = [{"id": key, "text": text} for key, text in QUERIES.items()] + [
        {"id": "alone", "text": "no positive"}
    ]
    return make_source(tmp_path / "source", queries, documents, QRELS)


def mine(source: Path, out: Path, **values) -> list[dict]:
    values = {"max_rank": 8, "num_negatives": 3, "cache": str(out.parent / "cache")} | values
    run_step("mine", [source], out, build(load_step("mine").parameters, values, "test"))
    return pq.read_table(out / "candidates" / f"{values.get('name', values['search'])}.parquet").to_pylist()


def chosen(rows: list[dict]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["dropped_by"] is None:
            found.setdefault(row["query"], []).append(row["document"])
    return found


@pytest.mark.parametrize("search", ["dense", "bm25", "rrf"])
def test_every_search_gives_raw_ranks_and_says_why_a_document_is_no_negative(
    source, tmp_path, encoder, search
):
    rows = mine(source, tmp_path / "out", search=search, encoder=str(encoder))
    by_query: dict[str, list[dict]] = {}
    for row in rows:
        by_query.setdefault(row["query"], []).append(row)
    assert set(by_query) == set(QUERIES)  # not the one without a positive
    for query, found in by_query.items():
        ranks = [row["rank"] for row in found if row["rank"] is not None]
        assert ranks == list(range(1, len(ranks) + 1))  # raw: positives are counted
        right = {document for q, document in QRELS if q == query}
        assert {row["document"] for row in found if row["reason"] == "positive"} == right  # found or not
        assert sum(row["dropped_by"] is None for row in found) <= 3
        assert "d05" not in {row["document"] for row in found}
    same = {row["document"]: row["reason"] for row in by_query["q0"]}
    assert same.get("copy", "same text") == "same text"


def test_dense_scores_are_the_encoders_cosines(source, tmp_path, encoder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder))
    for row in mine(source, tmp_path / "out", search="dense", encoder=str(encoder))[:20]:
        texts = QUERIES[row["query"]], DOCUMENTS.get(row["document"], DOCUMENTS["d00"].upper())
        query, document = model.encode_query(texts[0]), model.encode_document(texts[1])
        assert row["score"] == pytest.approx(float(query @ document), abs=1e-5)


@pytest.mark.parametrize(
    "prompts", [{}, {"query_prompt": "{instruction} query: ", "document_prompt": "passage: "}]
)
def test_a_model_gets_the_prompts_that_it_states_or_that_are_given_and_no_others(tmp_path, encoder, prompts):
    from sentence_transformers import SentenceTransformer

    bare = Path(shutil.copytree(encoder, tmp_path / "bare"))  # as all-MiniLM-L6-v2: no word of prompts
    (bare / "config_sentence_transformers.json").write_text("{}")
    (bare / "codiemb.json").unlink()
    pooling = bare / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": True}))
    queries = [{"id": key, "text": text, "instruction": "Find"} for key, text in QUERIES.items()]
    source = make_source(tmp_path / "source", queries, DOCUMENTS, QRELS)
    model = SentenceTransformer(str(bare))
    before = ("Find query: ", "passage: ") if prompts else ("", "")
    for library in ("codiemb", "sentence_transformers"):
        rows = mine(source, tmp_path / library, search="dense", encoder=str(bare), library=library, **prompts)
        for row in rows[:10]:
            query = model.encode(before[0] + QUERIES[row["query"]])
            assert row["score"] == pytest.approx(
                float(query @ model.encode(before[1] + DOCUMENTS[row["document"]])), abs=1e-5
            )


def test_a_prompt_that_is_given_for_one_side_leaves_the_other_as_the_model_states_it():
    stated = PromptTemplate("Find {instruction}: ", "passage: ", "anything")
    assert with_prompts(stated, None, None) is stated
    assert with_prompts(stated, "query: ", None) == PromptTemplate("query: ", "passage: ")
    assert with_prompts(stated, None, "") == PromptTemplate("Find {instruction}: ", "", "anything")


def test_ranks_of_all_documents_are_those_of_brute_force(source, tmp_path, encoder):
    rows = mine(source, tmp_path / "out", search="dense", encoder=str(encoder), max_rank=24)
    by_query: dict[str, list[float]] = {}
    for row in rows:
        by_query.setdefault(row["query"], []).append(row["score"])
    assert all(len(scores) == 24 and scores == sorted(scores, reverse=True) for scores in by_query.values())


def test_other_limits_encode_nothing_anew(source, tmp_path, encoder, monkeypatch):
    first = chosen(mine(source, tmp_path / "a", search="dense", encoder=str(encoder)))
    monkeypatch.setattr(
        "data_prep.search.encoders.CodiembEncoder.encode", lambda *_: pytest.fail("encoded again")
    )
    second = chosen(mine(source, tmp_path / "b", search="dense", encoder=str(encoder), min_rank=3))
    assert first != second


def test_another_models_embeddings_are_never_used(source, tmp_path, encoder):
    """Peers key their cache by a model's name; here the folder keeps its name and changes its weights."""
    model = Path(shutil.copytree(encoder, tmp_path / "model"))
    first = mine(source, tmp_path / "a", search="dense", encoder=str(model))
    weights = load_file(model / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, value in weights.items():
        weights[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    second = mine(source, tmp_path / "a", search="dense", encoder=str(model))  # the same --out: done again
    assert [row["score"] for row in first] != [row["score"] for row in second]
    assert second == mine(
        source, tmp_path / "fresh", search="dense", encoder=str(model), cache=str(tmp_path / "new")
    )


def test_a_cross_encoder_is_used_whenever_it_is_given(source, tmp_path, encoder, monkeypatch):
    """Peers take one and leave it out where no margin asks for it."""
    scored: list[tuple[str, str]] = []

    class Lengths:
        def predict(self, pairs, **_):
            scored.extend(pairs)
            return np.array([-float(len(document)) for _, document in pairs], dtype=np.float32)

    monkeypatch.setattr(mine_module, "load_cross_encoder", lambda *_, **__: Lengths())
    monkeypatch.setattr("data_prep.search.pair_scorer.cross_encoder_identity", lambda _: {"model": "lengths"})
    monkeypatch.setattr(mine_module, "cross_encoder_identity", lambda _: {"model": "lengths"})
    rows = mine(source, tmp_path / "out", search="bm25", cross_encoder="x", name="judged", highest=-30.0)
    assert len(scored) == len(rows)
    assert all(row["score"] == -len(DOCUMENTS.get(row["document"], DOCUMENTS["d00"])) for row in rows)
    assert {row["reason"] for row in rows if row["score"] > -30} <= {"highest", "positive", "same text"}


def test_a_killed_search_goes_on_at_its_block_and_ends_bit_equal(source, tmp_path, monkeypatch):
    for module in (searchers, mine_module):
        monkeypatch.setattr(module, "QUERIES_PER_BLOCK", 3)
    mine(source, tmp_path / "whole", search="bm25")
    made = killed_at(monkeypatch, 3, of="found-")
    with pytest.raises(KeyboardInterrupt):
        mine(source, tmp_path / "out", search="bm25")
    mine(source, tmp_path / "out", search="bm25")
    assert made == [f"found-{i:06d}.parquet" for i in (0, 1, 2, 2, 3)]
    for name in ("candidates/bm25.parquet", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_candidates_that_are_there_are_not_replaced(source, tmp_path):
    first = mine(source, tmp_path / "first", search="bm25")
    with pytest.raises(UserError, match="has candidates of the name 'bm25', which these would replace"):
        mine(tmp_path / "first", tmp_path / "second", search="bm25", max_rank=4)
    assert len(mine(tmp_path / "first", tmp_path / "second", search="bm25", max_rank=4, name="b")) < len(
        first
    )
    kept = pq.read_table(tmp_path / "second" / "candidates" / "bm25.parquet").to_pylist()
    assert kept == first


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"search": "dense"}, "needs --encoder"),
        ({"search": "bm25", "max_rank": 50}, "max_rank=50 is above the 24 documents"),
        ({"search": "bm25", "num_negatives": 0}, "num_negatives=0"),
        ({"search": "bm25", "max_tokens": 0}, "max_tokens=0"),
        ({"search": "bm25", "name": "../bm25"}, "becomes a file's name"),
        ({"search": "dense", "encoder": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_what_cannot_be_mined_is_one_error(source, tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        mine(source, tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()
