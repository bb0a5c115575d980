"""The CMTEB table: what is averaged over what, and that no mean is shown over part of it."""

import re
from collections import Counter
from statistics import fmean

import mteb
import pytest
import yaml

from codiemb.cmteb_names import CMTEB_TASKS, CMTEB_TYPES
from codiemb.evaluation import cmteb_table, cmteb_tasks
from codiemb.evaluation.cmteb import BENCHMARK, CATEGORIES, SENTIMENT
from codiemb.evaluation.published import PUBLISHED
from tests.support.evaluation_fakes import shown
from tests.support.paths import ROOT

COUNTS = {
    "Classification": 6,
    "Clustering": 4,
    "PairClassification": 2,
    "Reranking": 4,
    "Retrieval": 8,
    "STS": 7,
}


def _complete() -> dict[str, float]:
    return {name: (7 * index % 31) / 40 for index, name in enumerate(CMTEB_TYPES)}


def test_the_benchmark_is_31_tasks_in_six_categories():
    ours, theirs = cmteb_tasks(), mteb.get_benchmark(BENCHMARK).tasks
    known = [(task.metadata.name, task.hf_subsets, task.eval_splits) for task in ours]
    assert len(known) == 31
    assert known == [
        (name, task.hf_subsets, ["validation"] if name == SENTIMENT else task.eval_splits)
        for name, task in {task.metadata.name: task for task in theirs}.items()
    ]
    assert {name: (about.type, about.metric) for name, about in CMTEB_TASKS.items()} == {
        task.metadata.name: (task.metadata.type, task.metadata.main_score) for task in theirs
    }
    assert Counter(CMTEB_TYPES.values()) == COUNTS
    assert list(CATEGORIES) == list(COUNTS)


def test_every_task_has_the_instruction_of_the_registry_and_says_where_it_is_from():
    registry = mteb.get_model_meta("tencent/Youtu-Embedding").loader_kwargs["prompts_dict"]
    expected = {
        name: {key: text for key, text in entry.items() if text}
        if isinstance(entry, dict)
        else {"query": entry}
        for name, entry in registry.items()
    }
    file = ROOT / "conf/task/cmteb.yaml"
    ours = yaml.safe_load(file.read_text("utf-8"))["instructions"]
    assert {name: ours.get(name) for name in CMTEB_TYPES} == expected
    assert ours.keys() - expected.keys() == set(COUNTS)  # by type, for other tasks
    sources = dict(
        re.findall(r"^  ([\w-]+): \{.*\}  # (R E T|R E|ours)$", file.read_text("utf-8"), re.MULTILINE)
    )
    assert sources == {
        name: "R E T" if CMTEB_TYPES[name] in ("Retrieval", "STS") else "R E" for name in expected
    } | dict.fromkeys(COUNTS, "ours")


def test_means_over_tasks_and_over_categories():
    scores = _complete()
    table = cmteb_table(scores)
    by_category = {
        kind: 100 * fmean(score for name, score in scores.items() if CMTEB_TYPES[name] == kind)
        for kind in COUNTS
    }
    assert table.coverage == "31 of 31"
    assert table.mean_task == pytest.approx(100 * sum(scores.values()) / 31)
    assert table.mean_type == pytest.approx(sum(by_category.values()) / 6)
    assert table.categories == pytest.approx(by_category)
    assert table.sheet("mine").rows[-1][:3] == ("mine", f"{table.mean_task:.2f}", f"{table.mean_type:.2f}")


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.model)
def test_published_means_follow_from_the_published_categories(row):
    weighted = sum(COUNTS[kind] * value for kind, value in zip(COUNTS, row.categories, strict=True)) / 31
    assert weighted == pytest.approx(row.mean_task, abs=0.011)
    assert fmean(row.categories) == pytest.approx(row.mean_type, abs=0.011)


def test_the_disputed_cell_can_only_be_the_one_shown():
    row = next(row for row in PUBLISHED if row.note)
    assert (row.model, row.pair_classification) == ("bge-multilingual-gemma2", 79.30)
    assert fmean(row._replace(pair_classification=86.67).categories) != pytest.approx(row.mean_type, abs=1)
    assert "86.67" in row.note


def test_no_mean_over_part_of_the_tasks():
    scores = _complete()
    del scores["T2Retrieval"], scores["Ocnli"], scores["Cmnli"]
    table = cmteb_table(scores)
    assert (table.coverage, table.mean_task, table.mean_type) == ("28 of 31", None, None)
    assert table.categories["Retrieval"] is None
    assert table.categories["STS"] is not None
    cells = dict(zip(table.sheet().header, table.sheet().rows[-1], strict=True))
    assert (cells["Mean(Task)"], cells["Mean(Type)"]) == ("28 of 31", "–")
    assert (cells["Retr."], cells["PairCl."]) == ("7 of 8", "0 of 2")


def test_nothing_at_all_is_0_of_31():
    assert cmteb_table({}).sheet().title == "CMTEB, 0 of 31 tasks"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"FramesSTS": 0.5}, "not among the 31 tasks.*FramesSTS"),
        ({"AFQMC": 61.2}, "AFQMC: score 61.2 is not a fraction"),
        ({"AFQMC": float("nan")}, "AFQMC: score nan"),
    ],
)
def test_scores_that_cannot_be_right_are_errors(scores: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        cmteb_table(scores)


def test_the_table_fits_100_columns():
    text = shown(cmteb_table(_complete()).sheet("outputs/finetune/export"))
    assert max(map(len, text.splitlines())) <= 100
    assert "outputs/finetune/export" in text
    assert "77.60" in text
