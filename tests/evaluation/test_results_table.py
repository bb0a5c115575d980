"""What the user reads, and the files that keep it."""

from dataclasses import replace
from pathlib import Path

import pytest

from codiemb.evaluation import (
    Evaluation,
    MissingDataset,
    Sheet,
    TaskScore,
    missing_sheet,
    prompts_sheet,
    results_sheet,
    save,
)
from tests.support.evaluation_fakes import shown


def _result(task: str, kind: str, metric: str, score: float, bm25: float | None = None) -> TaskScore:
    prompts = {"query": "find", "document": ""} if bm25 is not None else {"text": "compare"}
    return TaskScore(task, kind, metric, score, 1.5, 20, prompts, ("test",), "abc", bm25, {"extra": 0.25})


AFTER = Evaluation(
    "outputs/finetune/export",
    "unknown",
    "2.26.24",
    (
        _result("FramesRetrieval", "Retrieval", "ndcg_at_10", 0.71234, 0.41),
        _result("FramesPairClassification", "PairClassification", "max_ap", 0.9),
    ),
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


def test_a_missing_dataset_takes_the_mean_away_and_is_named():
    missing = replace(AFTER, missing=(MissingDataset("AFQMC", "C-MTEB/AFQMC", "is not in the local cache"),))
    sheet = results_sheet(missing)
    assert "2 of 3 tasks" in sheet.title
    assert [row[0] for row in sheet.rows] == ["FramesRetrieval", "FramesPairClassification"]
    assert sheet.notes == ("1 left out, because their datasets cannot be had.",)
    assert missing_sheet(missing).rows == (("AFQMC", "C-MTEB/AFQMC", "is not in the local cache"),)


def test_scores_on_other_data_are_no_before():
    other = replace(BEFORE, results=(replace(BEFORE.results[0], revision="def"), BEFORE.results[1]))
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
    assert "| FramesRetrieval | document | (none) |" in text
    assert "a\\|b" in text
    with pytest.raises(FileNotFoundError, match=r"run_eval\.py"):
        Evaluation.load(tmp_path)


def test_prompts_are_listed_by_side():
    assert prompts_sheet(AFTER).rows == (
        ("FramesRetrieval", "query", "find"),
        ("FramesRetrieval", "document", "(none)"),
        ("FramesPairClassification", "text", "compare"),
    )
