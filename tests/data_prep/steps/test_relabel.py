"""What a judge finds right becomes a judgement, what it is unsure of is left out, and nothing is deleted."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.options import build
from data_prep.runner import load_step, run_step
from data_prep.search.pair_scorer import load_cross_encoder
from tests.support import tiny
from tests.support.chat_server import KEY, ChatServer, serving
from tests.support.killed import killed_at
from tests.support.sources import make_source, restate

QUERIES = {f"q{n}": f"query number {n}" for n in range(3)}
DOCUMENTS = {f"d{n}": f"document {'abcdefghij'[n]}" for n in range(10)}
QRELS = [("q0", "d0"), ("q1", "d1"), ("q2", "d2"), ("q0", "d5", 0), ("q1", "d9", 0)]
# what bm25 offers as negatives, and what it does not; d5 of q0 is judged wrong already
BM25 = [
    ("q0", "d0", 1, 9.0, "mine", "positive"),
    ("q0", "d3", 2, 8.0),
    ("q0", "d4", 3, 7.0),
    ("q0", "d5", 4, 6.0),
    ("q1", "d3", 1, 8.0),
    ("q1", "d4", 2, 7.0, "mine", "not chosen"),
    ("q1", "d6", 3, 6.0),
    ("q2", "d7", 1, 5.0),
]
DENSE = [("q0", "d3", 1, 0.9), ("q2", "d8", 2, 0.5)]
CHOSEN = [("q0", "d3"), ("q0", "d4"), ("q1", "d3"), ("q1", "d6"), ("q2", "d7"), ("q2", "d8")]
SCORES = dict(zip(CHOSEN, (0.9, 0.5, 0.1, 0.7, 0.2), strict=False))  # q2 d8 has none
KNOWN = {("q0", "d0"): 0.8, ("q1", "d1"): 0.5, ("q2", "d2"): 0.1, ("q0", "d5"): 0.3, ("q1", "d9"): 0.95}
BOUNDS = {"negative_below": 0.3, "positive_from": 0.7}


@pytest.fixture
def source(tmp_path):
    given = [(*pair, None, score) for pair, score in (SCORES | KNOWN).items()]
    candidates = {"bm25": BM25, "dense": DENSE, "cross": given}
    return make_source(tmp_path / "in", QUERIES, DOCUMENTS, QRELS, candidates)


def relabel(source, **values):
    out = source.parent / "out"
    run_step("relabel", [source], out, build(load_step("relabel").parameters, values, "test"))
    return out


def verdicts(out, table):
    rows = pq.read_table(out / table).to_pylist()
    return {(row["query"], row["document"]): row["reason"] for row in rows if row["dropped_by"] == "relabel"}


def judged(out):
    rows = pq.read_table(out / "qrels.parquet").to_pylist()
    return [(row["query"], row["document"], row["grade"], row["origin"]) for row in rows[len(QRELS) :]]


def about(out):
    return json.loads((out / "manifest.json").read_text())["agreement"]


def test_scores_that_are_there_judge_by_two_bounds_and_the_unsure_are_left_out(source):
    out = relabel(source, judge_scores="cross", **BOUNDS)
    assert judged(out) == [("q0", "d3", 1.0, "relabel: cross"), ("q1", "d6", 1.0, "relabel: cross")]
    right = {("q0", "d3"): "positive", ("q1", "d6"): "positive"}
    assert verdicts(out, "candidates/bm25.parquet") == right | {("q0", "d4"): "unsure"}
    assert verdicts(out, "candidates/dense.parquet") == {("q0", "d3"): "positive", ("q2", "d8"): "unsure"}
    assert verdicts(out, "candidates/cross.parquet") == {}  # scores are no offer
    assert pq.read_table(out / "qrels.parquet").slice(0, 5) == pq.read_table(source / "qrels.parquet")
    assert about(out) == {
        "cheap_by_strong": {
            "negative": {"not asked": 2},
            "unsure": {"not asked": 2},
            "positive": {"not asked": 2},
        },
        "verdicts": {"negative": 2, "unsure": 2, "positive": 2},
        "people": {
            "right": {
                "cheap": {"negative": 1, "unsure": 1, "positive": 1},
                "verdict": {"negative": 1, "unsure": 1, "positive": 1},
                "scores": {"0.05": 0.14, "0.25": 0.3, "0.5": 0.5, "0.75": 0.65, "0.95": 0.77},
                "strong_scores": {},
            },
            "wrong": {
                "cheap": {"unsure": 1, "positive": 1},
                "verdict": {"unsure": 1, "positive": 1},
                "scores": {"0.05": 0.3325, "0.25": 0.4625, "0.5": 0.625, "0.75": 0.7875, "0.95": 0.9175},
                "strong_scores": {},
            },
        },
    }


def test_what_is_right_is_exported_as_a_positive_and_what_is_dropped_as_nothing(source, tmp_path):
    out = relabel(source, judge_scores="cross", **BOUNDS)
    run_step("export", [out], tmp_path / "export", build(load_step("export").parameters, {}, "test"))
    records = [json.loads(line) for line in (tmp_path / "export/toy.jsonl").read_text().splitlines()]
    sides = {each["id"]: (each["positive_ids"], each["negative_ids"]) for each in records}
    assert sides == {
        "q0": (["d0", "d3"], ["d5"]),
        "q1": (["d1", "d6"], ["d9", "d3"]),
        "q2": (["d2"], ["d7"]),
    }


def test_judgements_of_a_model_are_no_word_of_people(source):
    table = pq.read_table(source / "qrels.parquet")
    rows = table.to_pylist()
    for row, origin in zip(rows[:2], ("relabel: x", "synthesise query"), strict=True):
        row["origin"] = origin
    pq.write_table(table.from_pylist(rows, schema=table.schema), source / "qrels.parquet")
    restate(source)
    people = about(relabel(source, judge_scores="cross", **BOUNDS))["people"]
    assert people["right"]["cheap"] == {"negative": 1}  # q2 d2


def test_only_named_scorers_are_judged(source):
    out = relabel(source, judge_scores="cross", negatives=["dense"], num_known=0, **BOUNDS)
    assert judged(out) == [("q0", "d3", 1.0, "relabel: cross")]
    assert verdicts(out, "candidates/bm25.parquet") == {("q0", "d3"): "positive"}  # nor may this one offer it
    assert about(out)["people"]["right"] == {"cheap": {}, "verdict": {}, "scores": {}, "strong_scores": {}}


@pytest.fixture(scope="module")
def cross_encoders(tmp_path_factory, wordpiece):
    """Two of random weights, as folders."""
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        shape = {key: value for key, value in tiny.ARCHITECTURES["bert"].items() if key != "model_type"}
        config = BertConfig(vocab_size=len(AutoTokenizer.from_pretrained(wordpiece)), num_labels=1, **shape)
        folders.append(tmp_path_factory.mktemp("cross") / f"judge{seed}")
        BertForSequenceClassification(config).save_pretrained(folders[-1])
        AutoTokenizer.from_pretrained(wordpiece).save_pretrained(folders[-1])
    return folders


def test_two_cross_encoders_judge_and_the_strong_one_sees_only_the_unsure(source, tmp_path, cross_encoders):
    cheap, strong = (
        load_cross_encoder(str(folder)).predict(
            [(QUERIES[q], DOCUMENTS[d]) for q, d in CHOSEN], show_progress_bar=False
        )
        for folder in cross_encoders
    )
    low, high = np.sort(cheap)[[1, 4]]  # one is below, and two are not below the upper one
    middle = float(np.median(strong[(cheap >= low) & (cheap < high)]))
    out = relabel(
        source,
        judge=str(cross_encoders[0]),
        negative_below=float(low),
        positive_from=float(high),
        strong=str(cross_encoders[1]),
        strong_negative_below=middle,
        strong_positive_from=middle,
        cache=str(tmp_path / "cache"),
    )
    expected = [
        (*pair, 1.0, "relabel: judge0" if score >= high else "relabel: judge1")
        for pair, score, other in zip(CHOSEN, cheap, strong, strict=True)
        if score >= high or (score >= low and other >= middle)
    ]
    assert judged(out) == expected
    table = about(out)["cheap_by_strong"]
    assert table["negative"] == {"not asked": 1}
    assert table["positive"] == {"not asked": 2}
    assert sum(table["unsure"].values()) == 3
    assert "not asked" not in table["unsure"]
    made = json.loads((out / "manifest.json").read_text())
    assert made["judge"]["weights"] != made["strong"]["weights"]


@pytest.fixture
def server(monkeypatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as service:
        yield service


ANSWERS = {  # by query and document
    ("q0", "d4"): '{"verdict": "positive"}',
    ("q0", "d3"): 'So {"verdict": "negative"}? No: {"verdict": "positive"}',
    ("q1", "d3"): "negative",
    ("q1", "d6"): '```json\n{"verdict": "drop"}\n```',
    ("q2", "d7"): '{"verdict": "maybe"}',
    ("q2", "d8"): '{"verdict": ["negative"]}',
}


def answer(body):
    asked = body["messages"][0]["content"]
    return next(
        (text for (q, d), text in ANSWERS.items() if QUERIES[q] in asked and DOCUMENTS[d] in asked), "{}"
    )


def model(server, **more):
    return {"endpoint": server.url, "model": "strong/model", "first_wait_seconds": 0.001} | more


def test_a_language_model_alone_says_one_of_three_words_and_else_nothing(source, server):
    server.answer = answer
    out = relabel(source, num_known=0, **model(server))
    assert judged(out) == [(*pair, 1.0, "relabel: strong/model") for pair in (("q0", "d3"), ("q0", "d4"))]
    found = verdicts(out, "candidates/bm25.parquet") | verdicts(out, "candidates/dense.parquet")
    assert {pair: found[pair] for pair in CHOSEN[2:]} == {
        ("q1", "d3"): "no verdict",
        ("q1", "d6"): "drop",
        ("q2", "d7"): "no verdict",
        ("q2", "d8"): "no verdict",
    }
    assert len(server.bodies) == len(CHOSEN)
    assert server.bodies[0]["temperature"] == 0.0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["taken"]["requests"] == 6
    written = [path for path in source.parent.rglob("*") if path.is_file()]
    assert any(path.name == "strong_model.jsonl" for path in written)
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_the_model_is_asked_about_the_unsure_and_a_share_of_the_others_and_its_word_counts(source, server):
    server.answer = answer
    values = {"judge_scores": "cross", **BOUNDS, **model(server)}
    out = relabel(source, num_known=0, **values)
    assert len(server.bodies) == 2  # q0 d4, and q2 d8, which has no score
    assert judged(out)[0] == ("q0", "d3", 1.0, "relabel: cross")
    assert judged(out)[1] == ("q0", "d4", 1.0, "relabel: strong/model")
    out = relabel(source, num_known=0, check_share=1.0, **values)
    assert about(out)["cheap_by_strong"] == {
        "negative": {"no verdict": 2},
        "unsure": {"positive": 1, "no verdict": 1},
        "positive": {"positive": 1, "drop": 1},
    }
    assert len(server.bodies) == 6  # what the ledger has is not asked again
    assert verdicts(out, "candidates/bm25.parquet")["q1", "d6"] == "drop"


def test_a_pair_that_the_strong_scores_lack_stays_unsure(source):
    out = relabel(
        source, judge_scores="bm25", negative_below=6.5, positive_from=99, strong_scores="cross",
        strong_negative_below=0.2, strong_positive_from=0.9,
    )  # fmt: skip
    # bm25 lacks q2 d8, and so does cross; of the others q1 d6 and q2 d7 are below 6.5
    assert judged(out) == [("q0", "d3", 1.0, "relabel: cross")]
    table = pq.read_table(out / "relabel.parquet").to_pylist()
    found = {(row["query"], row["document"]): row for row in table if not row["people"]}
    assert {pair: row["verdict"] for pair, row in found.items()} == dict(
        zip(CHOSEN, ("positive", "unsure", "negative", "negative", "negative", "unsure"), strict=True)
    )
    assert [found[pair]["strong_score"] for pair in CHOSEN] == [0.9, 0.5, 0.1, None, None, None]
    assert about(out)["people"]["right"]["strong_scores"]["0.5"] == 0.5


def test_texts_with_braces_are_put_in_as_they_are_and_a_prompt_of_ones_own_is_asked(tmp_path, server):
    source = make_source(
        tmp_path / "in",
        {"q": "{document} {x}"},
        {"d": "{query}", "e": "y"},
        [("q", "e")],
        {"s": [("q", "d", 1, 1)]},
    )
    (tmp_path / "own.yaml").write_text("prompt: '{query} | {document} {\"verdict\"}'\n")
    relabel(source, num_known=0, prompt=str(tmp_path / "own.yaml"), **model(server))
    assert server.bodies[0]["messages"][0]["content"] == '{document} {x} | {query} {"verdict"}'


def test_a_killed_run_asks_nothing_twice_and_ends_bit_equal(source, server, monkeypatch):
    server.answer = answer
    monkeypatch.setattr("data_prep.steps.relabel._PAIRS", 2)
    whole = relabel(source, **model(server)).rename(source.parent / "whole")
    (source.parent / "out.ledger").rename(source.parent / "old.ledger")
    asked = len(server.bodies)
    with monkeypatch.context() as patch:
        killed_at(patch, 2, of="judged-")
        with pytest.raises(KeyboardInterrupt):
            relabel(source, **model(server))
    out = relabel(source, **model(server))
    assert len(server.bodies) == 2 * asked
    for name in ("relabel.parquet", "qrels.parquet", "candidates/bm25.parquet", "manifest.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_the_page_and_the_terminal_show_the_tables_and_lineage_who_said_so(source, capsys):
    out = relabel(source, judge_scores="cross", **BOUNDS)
    printed = capsys.readouterr().out
    assert "| unsure | 2 |" in printed
    assert re.search(r"\| right \| 1 \| 1 \| 1 \|", printed)
    page = (out / "relabel.md").read_text()
    assert "| positive | query number 0 | document d | 0.9 |" in page
    rows = pq.read_table(out / "qrels.parquet").to_pylist()
    main(["lineage", str(out / "qrels.parquet"), str(len(rows))])
    printed = capsys.readouterr().out
    assert "document: added: judged 1, origin relabel: cross" in printed
    assert "dropped by relabel: positive" in printed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "nobody judges; give --judge FOLDER"),
        ({"judge_scores": "cross"}, "--negative-below X is missing"),
        ({"judge_scores": "cross", "negative_below": 0.1}, "--positive-from X is missing"),
        ({"judge_scores": "cross", "negative_below": 0.7, "positive_from": 0.3}, "=0.7 must not"),
        ({"judge_scores": "nobody", **BOUNDS}, "no scorer 'nobody'; there are bm25, cross, dense"),
        ({"judge_scores": "cross", "judge": "x", **BOUNDS}, "two cheap judges"),
        ({"strong": "x", "model": "y"}, "several strong judges"),
        ({"strong_scores": "x", "strong": "y"}, "several strong judges"),
        ({"strong": "x"}, "--strong-negative-below X is missing"),
        ({"model": "y"}, "endpoint: give the address"),
        ({"endpoint": "http://localhost:1/v1"}, "model: give the name"),
        ({"endpoint": "http://localhost:1/v1", "model": "m", "prompt": "fr"}, "there are en, zh"),
        ({"judge_scores": "cross", "check_share": 2, **BOUNDS}, "check_share=2.0 must be in"),
        ({"judge_scores": "cross", "negatives": ["cross"], **BOUNDS}, "no candidate is chosen"),
        ({"judge": "nothing_here", **BOUNDS}, "no cross-encoder at 'nothing_here'"),
    ],
)  # fmt: skip
def test_a_slip_is_one_error_before_anything_is_written(source, values, words):
    with pytest.raises(UserError, match=re.escape(words)):
        relabel(source, **values)
    assert not (source.parent / "out").exists()


def test_a_prompt_without_a_place_for_the_document_and_graded_pairs_are_refused(source, tmp_path):
    (tmp_path / "own.yaml").write_text("prompt: is {query} fine?\n")
    with pytest.raises(UserError, match=r"own.yaml: prompt: has no \{document\}"):
        relabel(source, endpoint="http://localhost:1/v1", model="m", prompt=str(tmp_path / "own.yaml"))
    pairs = make_source(tmp_path / "sts", {"q": "a"}, {"d": "b"}, [("q", "d", 0.5)], task="sts")
    with pytest.raises(UserError, match="graded pairs"):
        relabel(pairs, judge_scores="cross", **BOUNDS)
