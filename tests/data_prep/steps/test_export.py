"""What training reads is what the tables say: kept rows, ids, scores, and no text on both sides."""

import pytest

from codiemb.data import read_records
from codiemb.errors import UserError
from data_prep.options import build
from data_prep.runner import load_step, run_step
from tests.support.sources import make_source

QUERIES = [
    {"id": "q1", "text": "how long is a marathon", "instruction": "Find the answer"},
    {"id": "q2", "text": "how high is a stair"},
    {"id": "q3", "text": "nobody answers this"},
]
DOCUMENTS = [
    {"id": "d1", "title": "Marathon", "text": "42.195 km"},
    {"id": "d2", "text": "18 cm"},
    {"id": "d3", "text": "26 stairs"},
    {"id": "d4", "text": "18 cm"},  # the same text under another id
    {"id": "d5", "text": "a kettle"},
    {"id": "d6", "text": "spam", "dropped_by": "clean", "reason": "boilerplate"},
]
QRELS = [("q1", "d1", 1), ("q2", "d2", 2), ("q2", "d5", 0), ("q1", "d6", 1)]
MINED = [
    ("q1", "d1", 1, 0.9, "mine", "positive"),
    ("q1", "d3", 2, 0.5),
    ("q1", "d2", 3, 0.4),
    ("q1", "d5", 4, 0.1, "mine", "rank"),
    ("q2", "d4", 1, 0.8),
    ("q2", "d3", 2, 0.7),
    ("q2", "d2", 3, 0.6, "mine", "positive"),
]


def export(tmp_path, source, **values):
    import json

    run_step("export", [source], tmp_path / "out", build(load_step("export").parameters, values, "test"))
    return [json.loads(line) for line in (tmp_path / "out" / "toy.jsonl").read_text("utf-8").splitlines()]


def test_groups_hold_what_is_kept_with_the_teachers_scores(tmp_path):
    source = make_source(tmp_path / "source", QUERIES, DOCUMENTS, QRELS, {"dense": MINED})
    first, second = export(tmp_path, source)
    assert first == {
        "task_type": "ir",
        "query": ["Find the answer", "", "how long is a marathon"],
        "positives": [["", "", "Marathon 42.195 km"]],
        "negatives": [["", "", "26 stairs"], ["", "", "18 cm"]],
        "positive_scores": [0.9],
        "negative_scores": [0.5, 0.4],
        "id": "q1",
        "positive_ids": ["d1"],
        "negative_ids": ["d3", "d2"],
    }
    # judged and wrong comes first, and has no score; a copy of the positive is no negative
    assert (second["negative_ids"], second["positive_ids"]) == (["d5", "d3"], ["d2"])
    assert (second["negative_scores"], second["positive_scores"]) == ([None, 0.7], [0.6])


def test_training_reads_it_in_every_format(tmp_path):
    source = make_source(tmp_path / "source", QUERIES, DOCUMENTS, QRELS, {"dense": MINED}, block_rows=1)
    lines = {}
    for kind in ("jsonl", "jsonl.gz", "jsonl.zst", "parquet"):
        out = tmp_path / kind
        run_step("export", [source], out, build(load_step("export").parameters, {"format": kind}, "test"))
        names = sorted(path.name for path in out.glob("toy*"))
        assert names == [f"toy-{index:05d}.{kind}" for index in range(3)]  # a file for each block
        lines[kind] = [record for name in names[:2] for record in read_records(out / name)]
    assert lines["jsonl"][0].negatives[0].text == "26 stairs"
    assert all(records == lines["jsonl"] for records in lines.values())


def test_graded_pairs_are_a_record_each_with_the_instruction_on_both_sides(tmp_path):
    queries = [{"id": "a", "text": "a cat sits", "instruction": "Judge"}]
    documents = {"b": "a cat is sitting", "c": "a dog runs"}
    source = make_source(
        tmp_path / "source", queries, documents, [("a", "b", 0.96), ("a", "c", 0.0)], task="sts"
    )
    records = export(tmp_path, source)
    assert [record["positive_scores"] for record in records] == [[0.96], [0.0]]
    assert records[1]["positives"] == [["Judge", "", "a dog runs"]]


def test_raw_texts_are_exported_for_the_language_model_task(tmp_path):
    source = make_source(tmp_path / "source", {}, DOCUMENTS, task="lm")
    records = export(tmp_path, source)
    assert [record["text"] for record in records][:2] == ["Marathon 42.195 km", "18 cm"]
    assert len(records) == 5


def test_nothing_to_write_and_a_scorer_that_is_not_there_are_errors(tmp_path):
    source = make_source(tmp_path / "source", QUERIES, DOCUMENTS, [], {"dense": MINED})
    with pytest.raises(UserError, match="not one record"):
        export(tmp_path, source)
    with pytest.raises(UserError, match="num_negatives=-1 must be at least 0"):
        export(tmp_path, source, num_negatives=-1)
    with pytest.raises(UserError, match="no scorer 'bm25'; there are dense"):
        export(tmp_path, source, teacher="bm25")
