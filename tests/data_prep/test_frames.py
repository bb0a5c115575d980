"""The frames corpus keeps its promises: valid grammar, known similarity, disjoint splits, exact shapes."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from data_prep.frames.build import build_frames
from data_prep.frames.grammar import load_grammar
from data_prep.frames.sampler import Sampler, check_disjoint
from data_prep.frames.sizes import EvalSizes, Sizes
from data_prep.frames.train_sets import INSTRUCTION_IR, INSTRUCTION_STS, scored_pairs
from data_prep.frames.values import SPLITS

TEST = EvalSizes(
    retrieval_queries=30,
    retrieval_documents=150,
    reranking_queries=12,
    sts_pairs=60,
    classification_pairs=60,
    classification=96,
    clustering=288,
)
SMALL = Sizes(ir=60, sts=240, dev=TEST.divided(3), test=TEST)

FRAMES = load_grammar()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("frames")
    return out, build_frames(out, seed=3, size=SMALL)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts_in(value):
    """Every string of a record that is a rendered text, found by its length."""
    if isinstance(value, str):
        return {value} - {INSTRUCTION_IR, INSTRUCTION_STS, ""}
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key not in ("id", "label", "task_type")]
    return set().union(*map(texts_in, value)) if isinstance(value, list) else set()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_bytes(corpus, tmp_path):
    out, counts = corpus
    assert build_frames(tmp_path / "again", seed=3, size=SMALL) == counts
    build_frames(tmp_path / "other", seed=4, size=SMALL)
    for name in counts:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    name = "train/frames_ir.jsonl"
    assert (out / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_the_counts_are_the_lines_and_nothing_half_written_is_left(corpus):
    out, counts = corpus
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == set(counts)
    assert all(len(read(out / name)) == count for name, count in counts.items())


def test_no_text_is_in_two_splits(corpus):
    out, counts = corpus
    said = {split: set() for split in SPLITS}
    for name in counts:
        split = "train" if name.startswith("train") else Path(name).parts[1]
        if not name.endswith(("qrels.jsonl", "top_ranked.jsonl")):
            said[split] |= set().union(*map(texts_in, read(out / name)))
    assert all(len(texts) > 200 for texts in said.values())
    assert not said["train"] & said["dev"]
    assert not said["train"] & said["test"]
    assert not said["dev"] & said["test"]


def test_a_text_has_one_meaning():
    meaning_of = {}
    for split in SPLITS:
        sampler = Sampler(FRAMES, split, "one meaning")
        for i in range(6000):
            meaning = sampler.meaning()
            text = sampler.must_text(meaning, ("zh", "en")[i % 2], ("short", "passage")[i % 3 == 0])
            assert meaning_of.setdefault(text, meaning) == meaning


def test_an_overlap_of_splits_stops_the_build():
    train, test = Sampler(FRAMES, "train", "a"), Sampler(FRAMES, "test", "b")
    for sampler in (train, test):
        sampler.must_text(sampler.meaning(), "en")
    check_disjoint([train, test])
    test.used_templates |= train.used_templates
    with pytest.raises(ValueError, match="train and test share 1 items"):
        check_disjoint([train, test])


def test_asking_for_more_than_there_is_stops_with_a_reason():
    few = [frame for frame in FRAMES if frame.name == "law.contract_validity"]
    with pytest.raises(ValueError, match="no new texts left"):
        list(scored_pairs(Sampler(few, "test", "x"), 100_000))


def test_ir_records_have_the_exact_shape(corpus):
    out, _ = corpus
    for record in read(out / "train/frames_ir.jsonl"):
        assert list(record) == [
            "task_type", "query", "positives", "negatives", "positive_scores", "negative_scores",
        ]  # fmt: skip
        assert record["task_type"] == "ir"
        assert record["query"][:2] == [INSTRUCTION_IR, ""]
        assert 2 <= len(record["positives"]) <= 4
        assert 4 <= len(record["negatives"]) <= 6
        documents = record["positives"] + record["negatives"]
        assert all(document[:2] == ["", ""] and document[2] for document in documents)
        assert len({record["query"][2], *(d[2] for d in documents)}) == 1 + len(documents)
        assert record["positive_scores"] == [1.0] * len(record["positives"])
        assert record["negative_scores"] == [0.0] * len(record["negatives"])


def test_sts_records_have_the_exact_shape_and_an_even_gold(corpus):
    out, _ = corpus
    records = read(out / "train/frames_sts.jsonl")
    for record in records:
        (positive,) = record["positives"]
        assert record["task_type"] == "sts"
        assert record["query"][:2] == positive[:2] == [INSTRUCTION_STS, ""]
        assert record["negatives"] == record["negative_scores"] == []
    tenths = Counter(int(record["positive_scores"][0] * 10) for record in records)
    assert set(tenths) == set(range(11))
    assert max(tenths.values()) < 2 * len(records) / 11
    assert min(tenths.values()) > 0.5 * len(records) / 11


def test_texts_are_written_as_characters_in_both_languages(corpus):
    out, _ = corpus
    text = (out / "train/frames_ir.jsonl").read_text(encoding="utf-8")
    assert "\\u" not in text
    chinese = [
        bool(re.search("[\u4e00-\u9fff]{3}", r["query"][2])) for r in read(out / "train/frames_ir.jsonl")
    ]
    assert 0.3 < sum(chinese) / len(chinese) < 0.7


@pytest.mark.parametrize("split", ["dev", "test"])
def test_retrieval_and_reranking_refer_to_existing_texts(corpus, split):
    out, _ = corpus
    for task in ("FramesRetrieval", "FramesReranking"):
        folder = out / "eval" / split / task
        documents = {row["id"]: row["text"] for row in read(folder / "corpus.jsonl")}
        queries = {row["id"]: row["text"] for row in read(folder / "queries.jsonl")}
        relevant = {name: set() for name in queries}
        for row in read(folder / "qrels.jsonl"):
            assert row["score"] == 1
            assert row["corpus_id"] in documents
            relevant[row["query_id"]].add(row["corpus_id"])
        assert all(relevant.values())
        assert len(set(documents.values())) == len(documents)
        assert not set(queries.values()) & set(documents.values())
    for row in read(folder / "top_ranked.jsonl"):
        assert len(set(row["corpus_ids"])) == 10
        assert 1 <= len(relevant[row["query_id"]] & set(row["corpus_ids"])) <= 3
        assert relevant[row["query_id"]] <= set(row["corpus_ids"])


@pytest.mark.parametrize("split", ["dev", "test"])
def test_labels_are_balanced_and_sides_are_apart(corpus, split):
    out, _ = corpus
    folder = out / "eval" / split
    labels = Counter(row["label"] for row in read(folder / "FramesPairClassification/pairs.jsonl"))
    assert labels[0] == labels[1]
    train, test = (read(folder / f"FramesClassification/{side}.jsonl") for side in ("train", "test"))
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    assert {row["label"] for row in test} <= {frame.name for frame in FRAMES}
    if split == "test":
        assert {row["label"] for row in train} == {row["label"] for row in test}
    domains = Counter(row["label"] for row in read(folder / "FramesClustering/texts.jsonl"))
    assert len(domains) == 8
    assert max(domains.values()) <= 1.5 * min(domains.values())
    assert all(0 <= row["score"] <= 1 for row in read(folder / "FramesSTS/pairs.jsonl"))
