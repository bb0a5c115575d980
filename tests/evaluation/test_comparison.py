"""Two results: what differs is named first, and only what was measured on the same texts is subtracted."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from codiemb.errors import UserError
from codiemb.evaluation import Evaluator, builtin_tasks, paired, save
from codiemb.evaluation.comparison import compare, save_comparison
from codiemb.evaluation.per_query import PerQuery
from codiemb.evaluation.result_files import Results, read_results
from codiemb.evaluation.result_table import ResultTable
from tests.support.evaluation_fakes import BagOfWords, shown
from tests.support.result_files import write_model, write_ours


@pytest.fixture(scope="module")
def runs(builtin_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The seven builtin tasks with two encoders, as run_eval.py leaves them."""
    root = tmp_path_factory.mktemp("runs")
    evaluator = Evaluator(builtin_tasks(builtin_data, "test"), {})
    folders = [root / "16", root / "64"]
    for folder, width in zip(folders, (16, 64), strict=True):
        model = f"codiemb/bag{width}"
        result = evaluator.run(BagOfWords(width), bm25=False, model=model, per_query=folder / "per_query")
        save(result, folder)
        (folder / "config.yaml").write_text(f"run_dir: {folder}\nmodel: {{max_tokens: {width}}}\n")
        packages = {"packages": {"torch": "2.13.0"}, "command": str(folder)}
        (folder / "environment.json").write_text(json.dumps(packages))
    return folders


@pytest.fixture(scope="module")
def results(runs: list[Path]) -> list[Results]:
    return [read_results(folder) for folder in runs]


def test_the_kept_parts_give_the_stored_main_score_of_every_task(results):
    for result in results:
        kept = {task: PerQuery.load(result.per_query, task) for task in result.tasks}
        assert [task for task, parts in kept.items() if parts is None] == ["FramesClustering"]
        for task, parts in kept.items():
            if parts is not None:
                assert paired.score(parts) == pytest.approx(result.scores[task], abs=1e-5), task
                assert parts.metric == result.tasks[task].metric
    assert PerQuery.load(results[0].per_query, "FramesRetrieval").groups[0].ids == ["q0", "q1", "q2", "q3"]


def test_listening_changes_no_score_and_leaves_no_hook(runs, results, builtin_data: Path):
    tasks = builtin_tasks(builtin_data, "test")
    plain = Evaluator(tasks, {}).run(BagOfWords(16), bm25=False)
    assert plain.scores == results[0].scores
    assert not any("task_specific_scores" in vars(task) for task in tasks)


def test_settings_come_first_then_tasks_with_intervals(results, tmp_path: Path):
    comparison = compare(*results, resamples=200)
    settings, scores = map(shown, comparison.sheets())
    assert [(each.name, each.tasks, each.a, each.b) for each in comparison.settings] == [
        ("model", (), '"codiemb/bag16"', '"codiemb/bag64"'),
        ("config.model.max_tokens", (), "16", "64"),
    ]
    assert "config.model.max_tokens  all" in settings
    by_task = {entry.task: entry for entry in comparison.tasks}
    for task, entry in by_task.items():
        assert entry.difference == pytest.approx(results[1].scores[task] - results[0].scores[task])
    sts = by_task["FramesSTS"]
    assert sts.low < sts.difference < sts.high
    assert sts.p_value <= sts.adjusted == 1
    assert (by_task["FramesClustering"].low, by_task["FramesClustering"].verdict) == (None, "")
    assert "FramesClustering: no interval, its clusters are of all texts" in scores
    assert comparison.mean.difference == pytest.approx(
        sum(entry.difference for entry in comparison.tasks) / 7
    )
    assert comparison.mean.low is None  # one of the tasks has no interval
    assert "200 resamples, seed 0" in " ".join(scores.split())
    save_comparison(comparison, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text())["tasks"][3]["task"] == "FramesSTS"
    assert "## What differs" in (tmp_path / "comparison.md").read_text()


def test_the_same_twice_differs_in_nothing(results):
    comparison = compare(results[0], results[0], resamples=100)
    assert comparison.settings == ()
    assert {entry.difference for entry in comparison.tasks} == {0}
    assert "beyond noise" not in shown(comparison.sheets()[1])
    assert "No recorded setting differs." in shown(comparison.sheets()[0])


def _changed(results: Results, task: str, **fields) -> Results:
    entry = replace(results.tasks[task], **fields)
    return replace(results, tasks={**results.tasks, task: entry})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"revision": "other"}, "not compared: data of revision .* in A, other in B"),
        ({"splits": ("dev",)}, "not compared: splits test in A, dev in B"),
        ({"metric": "pearson"}, "not compared: metric cosine_spearman in A, pearson in B"),
    ],
)
def test_a_task_on_other_data_is_never_subtracted(results, fields, why: str):
    comparison = compare(results[0], _changed(results[1], "FramesSTS", **fields), resamples=10)
    (entry,) = [entry for entry in comparison.tasks if entry.task == "FramesSTS"]
    assert (entry.difference, entry.low, comparison.mean) == (None, None, None)
    assert re.match(why, entry.why)


def test_parts_of_another_evaluation_or_of_other_queries_give_no_interval(runs, results, tmp_path: Path):
    parts = PerQuery.load(results[1].per_query, "FramesSTS")
    other = _changed(results[1], "FramesSTS", score=0.5)
    assert "those of another evaluation" in _why(results[0], other)
    turned = [replace(group, gold=[1 - each for each in group.gold]) for group in parts.groups]
    score = paired.score(replace(parts, groups=turned))
    replace(parts, groups=turned, score=score).save(tmp_path)
    other = replace(_changed(results[1], "FramesSTS", score=score), per_query=tmp_path)
    assert "other queries, pairs or texts" in _why(results[0], other)
    assert "no per-query scores in B" in _why(results[0], replace(results[1], per_query=None))
    (tmp_path / "FramesSTS.json").write_text('{"task": "FramesSTS"}')
    with pytest.raises(UserError, match=r"FramesSTS.json is damaged"):
        compare(results[0], replace(results[1], per_query=tmp_path))


def _why(a: Results, b: Results) -> str:
    return next(entry.why for entry in compare(a, b, resamples=10).tasks if entry.task == "FramesSTS")


def test_files_of_mteb_are_compared_without_intervals(tmp_path: Path):
    a = write_model(tmp_path, "org/a", {"STSB": {"test": 0.5}, "BQ": {"test": 0.5}})
    b = write_model(tmp_path, "org/b", {"STSB": {"test": 0.75}})
    comparison = compare(read_results(a), read_results(b))
    assert [(e.task, e.difference, e.why) for e in comparison.tasks] == [
        ("BQ", None, "B has no score"),
        ("STSB", 0.25, "no interval, no per-query scores in A and B"),
    ]
    assert comparison.sheets()[1].header == ("Task", "A", "B", "B - A")


def test_scores_over_other_languages_are_never_subtracted(tmp_path: Path):
    """mteb scores the languages that were asked for; task, revision and split are the same for all."""
    a = write_model(tmp_path, "org/a", {"STS22": {"test": 0.5}, "STSB": {"test": 0.5}})
    b = write_model(tmp_path, "org/b", {"STS22": {"test": 0.75}, "STSB": {"test": 0.75}})
    for file in b.rglob("STS*.json"):
        record = json.loads(file.read_text())
        (row,) = record["scores"]["test"]
        record["scores"]["test"].append(row | {"hf_subset": "en", "languages": ["eng-Latn"]})
        file.write_text(json.dumps(record))
    results = [read_results(a), read_results(b)]
    why = {entry.task: (entry.difference, entry.why) for entry in compare(*results).tasks}
    assert why["STS22"] == (None, "not compared: subsets cmn-Hans in A, cmn-Hans, eng-Latn in B")
    assert results[1].left_out == {
        "STSB": "its score is of cmn-Hans and eng-Latn, the table takes Chinese alone"
    }
    other = {result.model: replace(result, tasks={"STS22": result.tasks["STS22"]}) for result in results}
    assert "Other data or another metric in some columns: STS22." in (
        ResultTable(list(other.values())).task_sheet().notes
    )


def test_prompts_are_told_apart_to_the_last_space(tmp_path: Path):
    a = write_ours(tmp_path / "a", {"STSB": 0.5, "BQ": 0.5, "LCQMC": 0.5})
    b = write_ours(tmp_path / "b", {"STSB": 0.5, "BQ": 0.5, "LCQMC": 0.5})
    record = json.loads((b / "results.json").read_text())
    for row in record["results"][:2]:
        row["prompts"] = {"text": "Query:"}
    record["results"][0]["weights"] = "e3b0"  # what a later version may record
    (b / "results.json").write_text(json.dumps(record))
    settings = compare(read_results(a), read_results(b)).settings
    assert [(each.name, each.tasks, each.a, each.b) for each in settings] == [
        ("prompts.text", ("STSB", "BQ"), '"Query: "', '"Query:"'),
        ("weights", ("STSB",), "(not recorded)", '"e3b0"'),
    ]
