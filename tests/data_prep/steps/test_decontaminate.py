"""decontaminate: what is marked holds a test text, the evidence says which words, and the rest stays."""

import functools
import json
from collections.abc import Iterator

import mteb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codiemb.errors import UserError
from data_prep.contamination.index import ScoredIndex
from data_prep.contamination.sides import ScoredText
from tests.data_prep.steps.test_dedup import rows, run
from tests.data_prep.test_runner import hashes
from tests.support.killed import killed_at
from tests.support.sources import make_source

QUESTION = "which of the two kettles on the second shelf boils a litre of water in less than three minutes"
ANSWER = "the blue one on the left of the second shelf does so in two minutes and forty seconds if it is full"
CHINESE = "请问第二层架子上的两个水壶哪一个能在三分钟之内烧开一升水"


@pytest.fixture(autouse=True, scope="module")
def names_read_once() -> Iterator[None]:
    """mteb builds all of its tasks to tell their names: 3 s a time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_tasks", "get_benchmarks"):
            patch.setattr(mteb, name, functools.cache(getattr(mteb, name)))
        yield


@pytest.fixture
def tasks(tmp_path):
    """A retrieval task whose corpus has a document that answers nothing, and an STS task."""
    files = {
        "Kettles/queries.jsonl": [{"_id": "1", "text": QUESTION}, {"_id": "2", "text": CHINESE}],
        "Kettles/corpus.jsonl": [
            {"_id": "a", "text": ANSWER},
            {"_id": "b", "text": f"no {ANSWER} is {QUESTION}"},
        ],
        "Kettles/qrels.jsonl": [{"query-id": q, "corpus-id": "a", "score": 1} for q in "12"],
        "Pairs/pairs.jsonl": [
            {"sentence1": "a short one", "sentence2": "another", "score": 0.1},
            {"sentence1": "a third", "sentence2": "a fourth", "score": 0.9},
        ],
    }
    for name, lines in files.items():
        path = tmp_path / "eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return tmp_path / "eval"


def training(folder, **more):
    queries = {
        "same": QUESTION.upper(),
        "short": "A short  one",
        "free": "what is a kettle made of",
        "zh": "水壶",
    }
    documents = {
        "holds": f"As somebody asked: {QUESTION}? We do not know.",
        "part": " ".join(ANSWER.split()[:18]),
        "little": " ".join(ANSWER.split()[:13]),
        "zh": f"{CHINESE}，谢谢",
        "free": "kettles are made of steel",
    } | more
    return make_source(folder, queries, documents, [("same", "holds"), ("free", "free")], block_rows=2)


def marked(folder):
    return {
        name: row["reason"]
        for table in ("queries", "corpus")
        for name, row in rows(folder, table).items()
        if row["dropped_by"] == "decontaminate"
    }


def evidence(folder):
    return {row["id"]: row for row in pq.read_table(folder / "contamination.parquet").to_pylist()}


def test_what_holds_a_test_text_is_marked_and_the_evidence_says_by_which_words(tasks, tmp_path):
    out = run("decontaminate", training(tmp_path / "s"), tmp_path / "out", against=[str(tasks)])
    assert marked(out) == {
        "same": "same text",
        "short": "same text",
        "holds": "13-grams",
        "part": "13-grams",
        "zh": "13-grams",
    }
    found = evidence(out)
    assert found["holds"]["span"] == QUESTION
    assert (found["holds"]["task"], found["holds"]["side"], found["holds"]["test"]) == (
        "Kettles",
        "query",
        "1",
    )
    assert found["part"]["share"] == pytest.approx(6 / 10)  # of ten runs of 13 in 22 words
    assert (found["part"]["side"], found["part"]["test_text"]) == ("document", ANSWER)
    assert found["zh"]["span"] == CHINESE
    assert found["short"]["task"] == "Pairs"
    manifest = json.loads((out / "manifest.json").read_text())
    assert [(each["name"], each["texts"]) for each in manifest["checked_against"]] == [
        ("Kettles", 3),
        ("Pairs", 4),
    ]
    page = (out / "decontaminate.md").read_text("utf-8")
    assert QUESTION in page
    assert "| Kettles | test | 3 |" in page
    assert "<script" not in (out / "decontaminate.html").read_text("utf-8")


def test_a_lower_share_marks_more_and_a_test_corpus_counts_only_if_asked_for(tasks, tmp_path):
    source = training(tmp_path / "s", distractor=f"no {ANSWER} is {QUESTION}")
    paired = run("decontaminate", source, tmp_path / "paired", against=[str(tasks)], min_share=0.1)
    assert marked(paired)["little"] == "13-grams"
    assert (
        marked(paired)["distractor"] == "13-grams"
    )  # for the question in it, not as the document that it is
    queries = run("decontaminate", source, tmp_path / "queries", against=[str(tasks)], documents="none")
    assert "part" not in marked(queries)
    whole = run("decontaminate", source, tmp_path / "all", against=[str(tasks)], documents="all")
    assert marked(whole)["distractor"] == "same text"


def test_a_dropped_query_makes_no_record_and_a_later_step_can_still_see_it(tasks, tmp_path):
    out = run("decontaminate", training(tmp_path / "s"), tmp_path / "out", against=[str(tasks)])
    exported = run("export", out, tmp_path / "export")
    records = [json.loads(line) for line in (exported / "toy.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == ["free"]
    checked = [
        json.loads((each / "manifest.json").read_text())["checked_against"] for each in (out, exported)
    ]
    assert checked[0] == checked[1]
    assert len(rows(out, "queries")) == 4


def test_files_of_texts_and_of_records_are_test_sides_too(tmp_path):
    source = training(tmp_path / "s")
    (tmp_path / "held.txt").write_text("what is a kettle made of\n\n", "utf-8")
    record = {
        "task_type": "ir",
        "query": ["find", "", QUESTION],
        "positives": [["", "", "kettles are made of STEEL"]],
    }
    (tmp_path / "held.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    out = run(
        "decontaminate",
        source,
        tmp_path / "out",
        against=[str(tmp_path / "held.txt"), str(tmp_path / "held.jsonl")],
    )
    assert marked(out) == {"same": "same text", "free": "same text", "holds": "13-grams"}


def test_a_killed_step_goes_on_and_ends_bit_equal(tasks, tmp_path, monkeypatch):
    source = training(tmp_path / "s")
    run("decontaminate", source, tmp_path / "whole", against=[str(tasks)])
    made = killed_at(monkeypatch, 4, of="parts")
    with pytest.raises(KeyboardInterrupt):
        run("decontaminate", source, tmp_path / "out", against=[str(tasks)])
    run("decontaminate", source, tmp_path / "out", against=[str(tasks)])
    assert len(made) == len(set(made)) + 1
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_a_paraphrase_is_found_by_its_embedding(tasks, tmp_path, monkeypatch):
    """The encoder is a stub that sees the first letter: what is tested is the way of the vectors."""
    import numpy as np

    from data_prep.steps import decontaminate as step

    class Letters:
        width = 128

        def prompt(self, instruction):
            return ""

        def identity(self):
            return {"encoder": "letters"}

        def encode(self, rows):
            return np.eye(128, dtype=np.float32)[[ord(text[:1] or " ") % 128 for _, text in rows]]

    monkeypatch.setattr(step, "load_sides", lambda *_, **__: (Letters(), Letters()))
    source = make_source(
        tmp_path / "s", {"q": "which kettle is it"}, {"d": "xylophones", "e": ""}, [("q", "d")]
    )
    values = {"against": [str(tasks)], "encoder": "letters", "cache": str(tmp_path / "cache")}
    out = run("decontaminate", source, tmp_path / "out", **values)
    assert marked(out) == {"q": "cosine"}
    assert evidence(out)["q"]["test_text"] == QUESTION
    assert json.loads((out / "manifest.json").read_text())["encoder"]["encoder"] == {"encoder": "letters"}


words = st.lists(st.sampled_from("abc"), max_size=9)


@settings(deadline=None, max_examples=60)
@given(st.lists(words, min_size=1, max_size=4), words, st.sampled_from([0.2, 0.5, 1.0]))
def test_the_share_is_that_of_the_test_texts_runs_of_words(tests, own, min_share):
    size = 2
    texts = [ScoredText("t", "text", str(i), " ".join(each)) for i, each in enumerate(tests)]
    index = ScoredIndex(texts, size)
    found = list(index.matches([" ".join(own)], min_share))

    def grams(sequence):
        return {tuple(sequence[i : i + size]) for i in range(len(sequence) - size + 1)}

    shares = [len(grams(each) & grams(own)) / len(grams(each)) if grams(each) else 0.0 for each in tests]
    if own and own in tests:
        assert (found[0].reason, found[0].share) == ("same text", 1.0)
    elif max(shares) >= min_share:
        assert found[0].share == pytest.approx(max(shares))
        span = index.span(" ".join(own), found[0].test).split()
        assert " ".join(span) in " ".join(own)
        assert len(span) >= size
    else:
        assert found == []


def test_words_of_more_than_a_hundred_test_texts_say_nothing():
    common = "terms and conditions apply to all of our offers see the shop for them"
    texts = [ScoredText("t", "text", str(i), f"{common} {i} {i} own words") for i in range(150)]
    index = ScoredIndex(texts, 5)
    assert list(index.matches([f"now {common} here"], 0.1)) == []
    assert [match.test for match in index.matches([f"now {texts[7].text} here"], 0.5)] == [7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--against names what to compare with"),
        ({"against": ["NoSuchTaskAtAll"]}, "no such file or folder, and nothing in mteb has this name"),
        ({"against": ["AFQM"]}, r"did you mean AFQMC\?"),
        ({"against": ["x"], "min_share": 0.0}, r"min_share=0\.0 must be above 0"),
    ],
)
def test_wrong_options_are_refused(tmp_path, values, message):
    source = make_source(tmp_path / "s", {"q": "x"}, {"d": "y"}, [("q", "d")])
    with pytest.raises(UserError, match=message):
        run("decontaminate", source, tmp_path / "out", **values)


def test_what_cannot_be_read_is_named(tasks, tmp_path, monkeypatch):
    source = make_source(tmp_path / "s", {"q": "x"}, {"d": "y"}, [("q", "d")])
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"bad\.txt: not UTF-8"):
        run("decontaminate", source, tmp_path / "out", against=[str(tmp_path / "bad.txt")])
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"text":\n')
    with pytest.raises(UserError, match=r"bad\.jsonl:2"):
        run("decontaminate", source, tmp_path / "out", against=[str(tmp_path / "bad.jsonl")])
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="no text is scored there"):
        run("decontaminate", source, tmp_path / "out", against=[str(tmp_path / "none.txt")])
    with pytest.raises(UserError, match="nothing in mteb has this name"):
        run("decontaminate", source, tmp_path / "out", against=["MTEB(nope", "v9)"])
    assert not (tmp_path / "out").exists()
