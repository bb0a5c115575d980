"""Result files of every layout become rows of one table, on the same splits; no mean is over part of it."""

import csv
import json
import re
from pathlib import Path

import mteb
import pytest
from mteb.benchmarks import Benchmark
from mteb.cache import ResultCache
from mteb.results import BenchmarkResults, ModelResult, TaskResult

from codiemb.errors import UserError
from codiemb.evaluation import cmteb_table, cmteb_tasks
from codiemb.evaluation.cmteb import SENTIMENT
from codiemb.evaluation.mteb_files import task_results
from codiemb.evaluation.published import PUBLISHED
from codiemb.evaluation.result_files import read_results
from codiemb.evaluation.result_table import ResultTable
from codiemb.result_folder import ResultFile
from tests.support.evaluation_fakes import shown
from tests.support.result_files import FILES, MAIN_SCORES, write_file, write_model, write_ours

YOUTU, QWEN = MAIN_SCORES


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("results")
    return {model: write_model(root, model, scores) for model, scores in MAIN_SCORES.items()}


def _row(name: str):
    return next(row for row in PUBLISHED if row.model == name)


def test_the_row_of_a_published_model_comes_out_of_its_files(models):
    table, row = cmteb_table(models[QWEN]), _row("Qwen3-Embedding-4B")
    assert table.coverage == "31 of 31"
    assert (table.mean_task, table.mean_type) == pytest.approx((row.mean_task, row.mean_type), abs=0.005)
    assert tuple(table.categories.values()) == pytest.approx(row.categories, abs=0.005)


def test_youtus_categories_do_not_and_the_footnote_has_what_its_files_give(models):
    table, row = cmteb_table(models[YOUTU]), _row("Youtu-Embedding-V1")
    assert f"{table.mean_task:.2f} and {table.mean_type:.2f}" == "77.58 and 78.86"
    for value, printed in zip(table.categories.values(), row.categories, strict=True):
        assert abs(value - printed) > 0.5
        assert f"{value:.2f}" in row.note
    assert "77.58 and 78.86" in row.note
    assert "†" in table.sheet().rows[-2][0]


def test_mteb_gives_the_same_means_on_the_same_splits_and_others_with_test(models):
    def means(tasks) -> list[float]:
        results = [TaskResult.from_disk(file) for file in read_results_files(models[YOUTU])]
        benchmark = Benchmark(name="cmn", tasks=tasks)
        one = ModelResult(model_name=YOUTU, model_revision="1f", task_results=results)
        chosen = BenchmarkResults(model_results=[one]).select_tasks(tasks)
        scores = benchmark.get_score(chosen)[YOUTU]
        return [100 * scores["Mean(Task)"], 100 * scores["Mean(TaskType)"]]

    table = cmteb_table(models[YOUTU])
    assert means(cmteb_tasks()) == pytest.approx([table.mean_task, table.mean_type], abs=1e-6)
    with_test = mteb.get_task("MultilingualSentiment")
    both = means([with_test if t.metadata.name == SENTIMENT else t for t in cmteb_tasks()])
    assert [round(value, 2) for value in both] == [77.60, 78.87]


def read_results_files(model: Path) -> list[Path]:
    return [file for file in sorted((model / "1f").glob("*.json")) if file.name != "model_meta.json"]


def test_files_of_mteb_1_2_are_read_and_what_they_lack_is_named():
    results = read_results(FILES / "mteb_1_2")
    assert results.scores == {
        "MultilingualSentiment": 0.774233,
        "Ocnli": pytest.approx(0.8056, abs=1e-4),  # the best accuracy over similarities
        "STSB": 0.813694,
        "T2Reranking": 0.681092,
    }
    assert results.notes == ("mteb_1_2: T2Reranking state only `map`, which is taken.",)
    sheet = cmteb_table(FILES / "mteb_1_2").sheet("old")
    assert sheet.rows[-1][1:4] == ("4 of 31", "–", "1 of 6")
    assert "old has no T2Retrieval" in sheet.notes[-1]


def test_files_of_mteb_2_are_read_one_a_task_or_all_in_one(tmp_path: Path):
    row = {"main_score": 0.5, "hf_subset": "default", "languages": ["cmn-Hans"]}
    result = TaskResult(
        dataset_revision="abc",
        task_name="STSB",
        mteb_version="2.26.24",
        scores={"test": [row]},
        evaluation_time=1,
    )
    ResultCache(tmp_path).save_to_cache(result, "org/small", "1f", encode_kwargs={"batch_size": 32})
    read = read_results(tmp_path / "results")
    assert (read.model, read.scores) == ("org/small", {"STSB": 0.5})
    assert read.tasks["STSB"].settings["encode_kwargs.batch_size"] == "32"
    whole = ModelResult(model_name="org/small", model_revision="1f", task_results=[result])
    whole.to_disk(tmp_path / "whole.json")
    assert read_results(tmp_path / "whole.json").scores == {"STSB": 0.5}


def test_scores_on_other_splits_are_left_out_and_named(tmp_path: Path):
    ours = write_ours(tmp_path, {"MultilingualSentiment": 0.8, "STSB": 0.7})
    assert read_results(ours).scores == {"STSB": 0.7}
    missing = cmteb_table(ours).missing
    assert "MultilingualSentiment (scored on test, the table takes validation)" in missing
    only_test = write_file(tmp_path / "files", "MultilingualSentiment", {"test": 0.8}).parent
    assert read_results(only_test).left_out == {"MultilingualSentiment": "its file has no split validation"}
    (task,) = [task for task in cmteb_tasks() if task.metadata.name == "MultilingualSentiment"]
    assert task.eval_splits == ["validation"]  # of our own evaluations, too


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: write_file(folder / "1", "STSB", {"test": 0.4}), "both state STSB"),
        (
            lambda folder: write_file(folder / "0", "STSB", {}).write_text('{"task_name": "STSB"}'),
            "mteb cannot",
        ),
    ],
)
def test_files_that_contradict_or_cannot_be_read_are_one_error(tmp_path: Path, write, message: str):
    folder = tmp_path / "org__small"
    write_file(folder / "0", "STSB", {"test": 0.5})
    write(folder)
    with pytest.raises(UserError, match=message):
        read_results(folder)


def test_a_table_of_several_is_shown_and_written(models, tmp_path: Path):
    partial = write_model(tmp_path, QWEN, {"STSB": {"test": 0.5}, "SciFact": {"test": 0.5}}, "2e")
    table = ResultTable([read_results(folder) for folder in (*models.values(), partial)])
    means, tasks = map(shown, table.sheets())
    assert max(map(len, (means + tasks).splitlines())) <= 100
    assert f"1:{YOUTU}       77.58       78.86" in means
    assert "3:Qwen/Qwen3-Embedding-4B     1 of 31           –" in means
    assert "STSB                   83.18  86.17  50.00" in tasks
    assert "Mean                   77.58  72.27      –" in tasks
    assert "1 tasks that are none of the 31 are not shown" in tasks
    table.save(tmp_path / "out")
    record = json.loads((tmp_path / "out/table.json").read_text())
    assert record["rows"][1]["mean_task"] == pytest.approx(72.2664, abs=1e-4)
    assert record["rows"][2]["mean_task"] is None
    assert record["rows"][2]["missing"]["AFQMC"] == "no result"
    with (tmp_path / "out/table.csv").open() as file:
        lines = {row["model"]: row for row in csv.DictReader(file)}
    assert lines["Youtu-Embedding-V1"]["mean_task"] == "77.6"
    assert float(lines[f"2:{QWEN}"]["STSB"]) == pytest.approx(86.1662)
    assert "## CMTEB" in (tmp_path / "out/table.md").read_text()
    assert (tmp_path / "out/table.png").stat().st_size > 10_000


def test_runs_on_other_tasks_have_their_own_table(tmp_path: Path):
    a = write_ours(tmp_path / "a", {"FramesSTS": 0.5, "OtherSTS": 0.25})
    b = write_ours(tmp_path / "b", {"FramesSTS": 0.75})
    table = ResultTable([read_results(a), read_results(b)])
    (sheet,) = table.sheets()
    assert sheet.rows == (("FramesSTS", "50.00", "75.00"), ("OtherSTS", "25.00", "–"), ("Mean", "37.50", "–"))
    assert "2:mine has no OtherSTS: no mean over the others." in sheet.notes
    table.save(tmp_path)
    assert json.loads((tmp_path / "table.json").read_text())["published"] == []


def test_no_mean_goes_over_what_a_stopped_run_has(tmp_path: Path):
    write_ours(tmp_path, {"FramesSTS": 0.5, "OtherSTS": 0.25})
    _add(tmp_path / "results.json", pending=["ThirdSTS"])
    (sheet,) = ResultTable([read_results(tmp_path)]).sheets()
    assert sheet.rows[-2:] == (("ThirdSTS", "–"), ("Mean", "–"))
    assert (
        "1:mine has no ThirdSTS (the evaluation was stopped before it): no mean over the others."
        in sheet.notes
    )


@pytest.mark.parametrize(
    ("task", "score", "revision", "reason"),
    [
        ("FramesSTS", float("nan"), "abc", "its score is nan, no fraction"),
        ("STSB", 83.2, "abc", "its score is 83.2, no fraction"),
        (
            "STSB",
            0.8,
            "0123456789abcdef",
            "scored on local files of this name .*",
        ),
    ],
)
def test_what_is_no_score_of_the_table_is_left_out_and_named(tmp_path: Path, task, score, revision, reason):
    write_ours(tmp_path, {task: score, "BQ": 0.5})
    record = json.loads((tmp_path / "results.json").read_text("utf-8"))
    record["results"][0]["revision"] = revision
    _add(tmp_path / "results.json", results=record["results"])
    results = read_results(tmp_path)
    assert results.scores == {"BQ": 0.5}
    assert re.fullmatch(reason, results.left_out[task])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], "results.json states FramesSTS twice; evaluate again"),
        (lambda rows: [rows[0] | {"score": "0.5"}], r"score='0\.5' must be a number; evaluate again"),
        (lambda rows: [rows[0] | {"task": None}], "a result without task; evaluate again"),
        (lambda rows: ["FramesSTS"], "a result without task; evaluate again"),
    ],
)
def test_a_damaged_file_of_ours_is_one_error(tmp_path: Path, change, message: str):
    write_ours(tmp_path, {"FramesSTS": 0.5})
    rows = json.loads((tmp_path / "results.json").read_text("utf-8"))["results"]
    _add(tmp_path / "results.json", results=change(rows))
    with pytest.raises(UserError, match=message):
        read_results(tmp_path)


def test_the_settings_of_a_training_run_are_those_that_ran(tmp_path: Path):
    write_ours(tmp_path / "evaluation", {"FramesSTS": 0.5})
    (tmp_path / "config.yaml").write_text("model: {pooling: mean}\ntrainer: {precision: auto}\n")
    assert read_results(tmp_path).settings["config.trainer.precision"] == '"auto"'
    (tmp_path / "config_ran.yaml").write_text("model: {pooling: cls}\nrun_dir: x\n")
    settings = read_results(tmp_path).settings
    assert {name: value for name, value in settings.items() if name.startswith("config.")} == {
        "config.model.pooling": '"cls"'
    }


def test_files_of_mteb_give_what_mteb_itself_reads_in_them(models):
    """Those of 1.11 and newer are read without it."""
    for file in read_results_files(models[YOUTU]):
        theirs = TaskResult.from_disk(file)
        (ours,) = task_results(ResultFile(file, json.loads(file.read_text("utf-8"))))
        assert (ours.task, ours.revision, ours.mteb_version) == (
            theirs.task_name,
            theirs.dataset_revision,
            theirs.mteb_version,
        )
        for split, rows in ours.scores.items():
            mean = sum(row["main_score"] for row in rows) / len(rows)
            assert mean == pytest.approx(theirs.get_score(splits=[split]), abs=1e-12)


def _add(file: Path, **more: object) -> None:
    record = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(record | more), "utf-8")
