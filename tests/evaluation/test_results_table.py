"""What the user reads, and the files that keep it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codiemb.errors import UserError
from codiemb.evaluation import (
    Evaluation,
    MissingDataset,
    Setup,
    TaskScore,
    missing_sheet,
    prompts_sheet,
    results_sheet,
    save,
)
from codiemb.tables import Sheet
from tests.support.evaluation_fakes import shown


def _result(task: str, kind: str, metric: str, score: float, bm25: float | None = None) -> TaskScore:
    prompts = {"query": "find", "document": ""} if bm25 is not None else {"text": "compare"}
    prefix = {"query": "find:\n", "document": ""} if bm25 is not None else {"text": None}
    return TaskScore(
        task, kind, metric, score, 1.5, 20, prompts, ("test",), "abc", bm25, {"extra": 0.25}, prefix
    )


AFTER = Evaluation(
    "outputs/finetune/export",
    "unknown",
    "2.26.24",
    (
        _result("FramesRetrieval", "Retrieval", "ndcg_at_10", 0.71234, 0.41),
        _result("FramesPairClassification", "PairClassification", "max_ap", 0.9),
    ),
    setup=Setup({"weights": "0f", "pooling": "mean"}, {"torch": "2"}, 49),
)
BEFORE = replace(
    AFTER, model="start", results=tuple(replace(result, score=result.score / 2) for result in AFTER.results)
)

SNAPSHOT = """\
outputs/finetune/export: 2 of 2 tasks (mteb 2.26.24)
Task                      Metric   Before  After   BM25
───────────────────────────────────────────────────────
FramesRetrieval           ndcg@10   35.62  71.23  41.00
FramesPairClassification  max_ap    45.00  90.00      –
Mean                                40.31  80.62
"""


def test_the_table_as_it_is_read():
    assert shown(results_sheet(AFTER, BEFORE)) == SNAPSHOT


def test_without_a_before_or_bm25_the_columns_go():
    plain = replace(AFTER, results=AFTER.results[1:])
    assert results_sheet(plain).header == ("Task", "Metric", "Score")
    assert results_sheet(plain).rows == (("FramesPairClassification", "max_ap", "90.00"),)
    of_another_task = replace(BEFORE, results=BEFORE.results[:1])
    assert results_sheet(plain, of_another_task).header == ("Task", "Metric", "Score")


def test_a_missing_dataset_takes_the_mean_away_and_is_named():
    missing = replace(AFTER, missing=(MissingDataset("AFQMC", "C-MTEB/AFQMC", "is not in the local cache"),))
    sheet = results_sheet(missing)
    assert "2 of 3 tasks" in sheet.title
    assert [row[0] for row in sheet.rows] == ["FramesRetrieval", "FramesPairClassification"]
    assert sheet.notes == ("1 left out: AFQMC is not in the local cache.",)
    assert missing_sheet(missing).rows == (("AFQMC", "C-MTEB/AFQMC", "is not in the local cache"),)


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "def"},
        {"metric": "map_at_10"},
        {"splits": ("dev", "test")},
        {"prompts": {"query": "another", "document": ""}},
    ],
)
def test_scores_of_another_test_are_no_before(change):
    other = replace(BEFORE, results=(replace(BEFORE.results[0], **change), BEFORE.results[1]))
    rows = results_sheet(AFTER, other).rows
    assert [row[2] for row in rows] == ["–", "45.00", "–"]


def test_saved_and_loaded_is_the_same(tmp_path: Path):
    extra = Sheet("CMTEB, 0 of 31 tasks", ("Model",), (("a|b",),))
    save(AFTER, tmp_path / "new", before=BEFORE, sheets=[extra])
    assert Evaluation.load(tmp_path / "new") == AFTER
    assert Evaluation.load(tmp_path / "new/before.json") == BEFORE
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "before.json",
        "results.json",
        "results.md",
    ]
    text = (tmp_path / "new/results.md").read_text(encoding="utf-8")
    assert "| FramesRetrieval | ndcg@10 | 35.62 | 71.23 | 41.00 |" in text
    assert "| FramesRetrieval | document | (nothing) |" in text
    assert "| pooling | mean |" in text
    assert "a\\|b" in text
    with pytest.raises(UserError, match=r"run_eval\.py"):
        Evaluation.load(tmp_path)


def test_what_stands_before_the_texts_is_listed_by_side():
    assert prompts_sheet(AFTER).rows == (
        ("FramesRetrieval", "query", '"find:\\n"'),
        ("FramesRetrieval", "document", "(nothing)"),
        ("FramesPairClassification", "text", "not stated; instruction: compare"),
    )


def test_a_stopped_run_has_no_mean():
    sheet = results_sheet(replace(AFTER, pending=("FramesSTS",)))
    assert "2 of 3 tasks" in sheet.title
    assert [row[0] for row in sheet.rows] == ["FramesRetrieval", "FramesPairClassification"]


def test_results_of_the_version_before_can_be_read():
    record = json.loads(AFTER.to_json())
    for key in ("setup", "pending"):
        del record[key]
    for row in record["results"]:
        del row["prefix"]
    old = Evaluation.from_json(json.dumps(record))
    assert old.scores == AFTER.scores
    assert old.setup == Setup()
    assert old.results[0].prefix == {}


@pytest.mark.parametrize("text", ["", "[]", '{"results": 3}', '{"scores": {"STS": 0.5}}'])
def test_what_holds_no_results_is_refused_in_one_sentence(text: str):
    with pytest.raises(UserError, match=r"x\.json holds no results that this version can read"):
        Evaluation.from_json(text, "x.json")


def test_results_of_a_later_version_are_refused_by_the_name_that_is_not_known():
    record = json.loads(AFTER.to_json())
    record["results"][0]["colour"] = "red"
    with pytest.raises(UserError, match="unknown colour"):
        Evaluation.from_json(json.dumps(record))
