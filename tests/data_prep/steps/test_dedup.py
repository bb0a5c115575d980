"""dedup against brute force: what is dropped repeats what stays, judgements move, and nothing else does."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codiemb.data import content_hash
from codiemb.errors import UserError
from data_prep.manifest import checked_tasks
from data_prep.options import build
from data_prep.runner import load_step, run_step
from tests.data_prep.test_runner import hashes
from tests.support.killed import killed_at
from tests.support.sources import make_source, restate

THRESHOLD = 0.8


def run(name, sources, out, /, **values):
    options = build(load_step(name).parameters, values, "test")
    sources = sources if isinstance(sources, list) else [sources]
    run_step(name, sources, out, options)
    return out


def rows(folder, name):
    return {row["id"]: row for row in pq.read_table(folder / f"{name}.parquet").to_pylist()}


def judged(folder):
    """Kept pairs with their grades."""
    return {
        (row["query"], row["document"], row["grade"])
        for row in pq.read_table(folder / "qrels.parquet").to_pylist()
        if row["dropped_by"] is None
    }


def grams(text: str) -> set[str]:
    words = text.lower().split()
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(first: str, second: str) -> float:
    a, b = grams(first), grams(second)
    return len(a & b) / max(len(a | b), 1)


def planted(seed: int = 0) -> dict[str, str]:
    """60 texts of 100 words; of every second one four copies, with up to three words changed."""
    draw = random.Random(seed)
    texts = {}
    for number in range(60):
        words = [f"w{draw.randrange(3_000)}" for _ in range(100)]
        texts[f"d{number}"] = " ".join(words)
        for copy in range(4 * (number % 2)):
            changed = list(words)
            for _ in range(copy % 4):
                changed[draw.randrange(100)] = f"x{draw.randrange(3_000)}"
            texts[f"d{number}-{copy}"] = " ".join(changed) + ("" if copy else " ")
    return texts


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    texts = planted()
    queries = {f"q{number}": f"question {number}" for number in range(len(texts))}
    qrels = [(query, document) for query, document in zip(queries, texts, strict=True)]
    return make_source(tmp_path_factory.mktemp("planted") / "fetch", queries, texts, qrels, block_rows=32)


@pytest.fixture(scope="module")
def found(source, tmp_path_factory):
    return run("dedup", source, tmp_path_factory.mktemp("found") / "dedup")


def test_what_is_dropped_repeats_what_stays_by_brute_force(found):
    documents = rows(found, "corpus")
    dropped = [row for row in documents.values() if row["dropped_by"] == "dedup"]
    assert len(dropped) > 60
    for row in dropped:
        kept = documents[row["flags"][-1].removeprefix("duplicate of ")]
        assert kept["dropped_by"] is None
        assert row["cluster"] == kept["cluster"]
        if row["reason"] == "same text":
            assert content_hash(row["text"]) == content_hash(kept["text"])
        else:
            assert jaccard(row["text"], kept["text"]) >= THRESHOLD


def test_nine_of_ten_pairs_above_the_threshold_are_found(found):
    documents = list(rows(found, "corpus").values())
    near = [
        (a, b)
        for index, a in enumerate(documents)
        for b in documents[:index]
        if jaccard(a["text"], b["text"]) >= THRESHOLD
    ]
    together = [a["cluster"] is not None and a["cluster"] == b["cluster"] for a, b in near]
    assert len(near) > 100
    assert sum(together) >= 0.9 * len(near)


def test_a_query_is_answered_by_the_document_that_stays(source, found):
    documents, before = rows(found, "corpus"), judged(source)
    stays = {
        name: row["flags"][-1].removeprefix("duplicate of ") if row["dropped_by"] else name
        for name, row in documents.items()
    }
    assert judged(found) == {(query, stays[document], grade) for query, document, grade in before}
    merged = [row for row in pq.read_table(found / "qrels.parquet").to_pylist() if row["reason"] == "merged"]
    assert len(merged) == sum(row["dropped_by"] is not None for row in documents.values())


def test_the_order_of_rows_and_blocks_changes_no_verdict(source, found, tmp_path):
    table = pq.read_table(source / "corpus.parquet").to_pylist()
    random.Random(1).shuffle(table)
    queries = {row["id"]: row["text"] for row in pq.read_table(source / "queries.parquet").to_pylist()}
    other = make_source(tmp_path / "other", queries, table, sorted(judged(source)), block_rows=11)
    again = run("dedup", other, tmp_path / "dedup")
    assert rows(again, "corpus") == rows(found, "corpus")
    assert judged(again) == judged(found)


def test_a_killed_step_signs_no_block_twice_and_ends_bit_equal(source, found, tmp_path, monkeypatch):
    made = killed_at(monkeypatch, 5, of="parts")
    with pytest.raises(KeyboardInterrupt):
        run("dedup", source, tmp_path / "out")
    run("dedup", source, tmp_path / "out")
    assert len(made) == len(set(made)) + 1  # the piece that was cut off
    assert sum(name.startswith("signed") for name in made) == 7
    # the folders' names differ, so what the manifests say of the input does
    own, whole = (hashes(folder) for folder in (tmp_path / "out", found))
    assert {k: v for k, v in own.items() if k != "manifest.json"} == {
        k: v for k, v in whole.items() if k != "manifest.json"
    }


def test_of_several_sources_only_what_all_were_checked_against_was_checked():
    """Of the manifests that decontaminate writes."""
    both, one, own = ({"name": name, "revision": "1"} for name in ("both", "one", "own"))
    a, b = {"checked_against": [both, one]}, {"checked_against": [both]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.manifest.read_manifest", {Path("a"): a, Path("b"): b, Path("c"): {}}.get)
        assert checked_tasks([Path("a"), Path("b")]) == [both]
        assert checked_tasks([Path("a"), Path("c")]) == []
        assert checked_tasks([Path("a")], [own, one]) == [both, own, one]


SENTENCE = "the order was shipped on monday and should arrive at your door within five working days"


def test_the_document_of_the_first_source_stays_and_the_priority_is_the_users(tmp_path):
    a = make_source(
        tmp_path / "a", {"q": "where is it"}, {"d": SENTENCE, "e": "other"}, [("q", "d")], name="a"
    )
    longer = f"{SENTENCE} at least"
    b = make_source(
        tmp_path / "b", {"q": "Where is it", "r": "new"}, {"d": longer}, [("q", "d"), ("r", "d")], name="b"
    )
    merged = run("dedup", [a, b], tmp_path / "ab", name="both")
    assert judged(merged) == {("a:q", "a:d", 1.0), ("b:r", "a:d", 1.0)}
    assert rows(merged, "queries")["b:q"]["reason"] == "same text"
    other = run("dedup", [a, b], tmp_path / "ba", priority=["b"])
    assert judged(other) == {("b:q", "b:d", 1.0), ("b:r", "b:d", 1.0)}
    assert json.loads((merged / "source.json").read_text())["name"] == "both"
    exported = run("export", merged, tmp_path / "export")
    records = [json.loads(line) for line in (exported / "both.jsonl").read_text().splitlines()]
    assert {record["id"]: record["positive_ids"] for record in records} == {"a:q": ["a:d"], "b:r": ["a:d"]}


def test_the_miner_takes_no_near_duplicate_of_a_positive_for_a_negative(tmp_path):
    """From end to end: without clusters the twin is the hardest negative, with them it is none."""
    documents = {"d": SENTENCE, "twin": f"{SENTENCE} or so", "far": "the order of the books on the shelf"}
    queries = {"q": "when should the order that was shipped on monday arrive"}
    source = make_source(tmp_path / "source", queries, documents, [("q", "d")])

    def negatives(folder):
        mined = run("mine", folder, folder.parent / f"{folder.name}-mined", search="bm25", max_rank=2)
        out = run("export", mined, folder.parent / f"{folder.name}-export")
        return json.loads((out / "toy.jsonl").read_text())["negative_ids"]

    assert negatives(source) == ["twin"]
    clustered = run("dedup", source, tmp_path / "clustered", near="cluster")
    assert rows(clustered, "corpus")["twin"]["dropped_by"] is None
    assert negatives(clustered) == []
    mined = pq.read_table(tmp_path / "clustered-mined/candidates/bm25.parquet").to_pylist()
    assert {row["document"]: row["reason"] for row in mined}["twin"] == "same cluster"
    assert negatives(run("dedup", source, tmp_path / "dropped")) == ["far"]


def test_documents_that_share_a_duplicate_are_in_one_cluster(tmp_path):
    words = [f"w{i}" for i in range(60)]
    left, middle, right = words[:52] + ["a"] * 1, words[4:56], words[8:]
    texts = {"left": " ".join(left), "middle": " ".join(middle), "right": " ".join([*right, "b"])}
    assert jaccard(texts["left"], texts["right"]) < THRESHOLD < jaccard(texts["left"], texts["middle"])
    source = make_source(tmp_path / "s", {"q": "x"}, texts, [("q", "left")])
    found = rows(run("dedup", source, tmp_path / "out"), "corpus")
    assert {name for name, row in found.items() if row["dropped_by"]} == {"middle"}
    assert len({row["cluster"] for row in found.values()}) == 1


def test_graded_pairs_keep_what_is_nearly_equal_and_lose_what_stands_twice(tmp_path):
    texts = {"d": SENTENCE, "same": SENTENCE.upper(), "near": f"{SENTENCE} or so"}
    qrels = [("q", "d", 0.5), ("q", "same", 0.7), ("q", "near", 0.2)]
    source = make_source(tmp_path / "s", {"q": "a question"}, texts, qrels, task="sts")
    found = run("dedup", source, tmp_path / "out")
    assert judged(found) == {("q", "d", 0.7), ("q", "near", 0.2)}
    assert json.loads((found / "manifest.json").read_text())["near"] is None


def test_rows_that_a_step_has_dropped_before_take_no_part(tmp_path):
    documents = [
        {"id": "d", "text": SENTENCE},
        {"id": "e", "text": f"{SENTENCE} {SENTENCE}", "dropped_by": "clean", "reason": "too_long"},
        {"id": "f", "text": SENTENCE.upper(), "dropped_by": "clean", "reason": "symbols"},
    ]
    source = make_source(tmp_path / "s", {"q": "x"}, documents, [("q", "e"), ("q", "d")])
    found = run("dedup", source, tmp_path / "out")
    assert rows(found, "corpus") == rows(source, "corpus")
    assert judged(found) == judged(source)


def test_short_texts_are_equal_or_not_and_a_corpus_without_queries_is_one_too(tmp_path):
    texts = {"a": "C plus", "b": "c  plus", "c": "plus C", "empty": ""}
    source = make_source(tmp_path / "s", {}, texts, task="lm")
    for name in ("queries", "qrels"):
        (source / f"{name}.parquet").unlink()
    restate(source)
    found = rows(run("dedup", source, tmp_path / "out"), "corpus")
    assert {name for name, row in found.items() if row["dropped_by"]} == {"a"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 0.2}, r"threshold=0\.2 must be in"),
        ({"priority": ["nobody"]}, "priority='nobody': no such source; there are toy"),
    ],
)
def test_wrong_options_are_refused(source, tmp_path, values, words):
    with pytest.raises(UserError, match=words):
        run("dedup", source, tmp_path / "out", **values)
    assert not list(tmp_path.iterdir())


def test_sources_that_do_not_go_together_are_refused(source, tmp_path):
    with pytest.raises(UserError, match="nothing to read"):
        run("dedup", [], tmp_path / "out")
    with pytest.raises(UserError, match="another source is called 'toy'"):
        run("dedup", [source, source], tmp_path / "out")
    other = make_source(tmp_path / "sts", {"q": "x"}, {"d": "y"}, [("q", "d")], task="sts", name="other")
    with pytest.raises(UserError, match="task is sts"):
        run("dedup", [source, other], tmp_path / "out")
    dropped = [{"id": "d", "text": "y", "dropped_by": "clean", "reason": "empty"}]
    nothing = make_source(tmp_path / "nothing", {"q": "x"}, dropped, [("q", "d")])
    with pytest.raises(UserError, match="no document is kept"):
        run("dedup", nothing, tmp_path / "out")


def test_damage_is_named_with_its_file(source, tmp_path):
    copy = make_source(tmp_path / "copy", {"q": "x"}, {"d": "y"}, [("q", "gone")])
    with pytest.raises(UserError, match=r"qrels\.parquet: row 1: 'gone' is not in corpus\.parquet"):
        run("dedup", copy, tmp_path / "out")
    table = copy / "corpus.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    restate(copy)
    with pytest.raises(UserError, match=r"corpus\.parquet: no whole Parquet file"):
        run("dedup", copy, tmp_path / "out")
    table.write_bytes((copy / "queries.parquet").read_bytes())
    restate(copy)
    for step, values in (("dedup", {}), ("decontaminate", {"against": [str(table)]})):
        with pytest.raises(
            UserError, match=r"corpus\.parquet: no column title, hash, cluster; it has id, text"
        ):
            run(step, copy, tmp_path / "out", **values)
