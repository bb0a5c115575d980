"""Whose results a folder holds is told from its files and their names, before any score is read."""

import shutil
from pathlib import Path

import pytest

from codiemb.errors import UserError
from codiemb.result_folder import find_results
from tests.support.result_files import FILES, write_file, write_model, write_ours


def test_a_file_a_task_beside_each_other_is_the_folders_model():
    found = find_results(FILES / "mteb_1_2")
    assert (found.model, found.ours) == ("mteb_1_2", None)
    assert [file.path.stem for file in found.files] == [
        "MultilingualSentiment",
        "Ocnli",
        "STSB",
        "T2Reranking",
    ]


def test_a_models_revisions_are_joined_and_named_by_their_folders_where_no_meta_is(tmp_path: Path):
    model = write_model(tmp_path, "org/small", {"AFQMC": {"validation": 0.5}}, "1f")
    write_file(model / "no_revision_available", "BQ", {"test": 0.5})
    (model / "1f" / "AFQMC_predictions.json").write_text("{}")
    found = find_results(model)
    assert (found.model, found.revisions) == ("org/small", ("1f", "no_revision_available"))
    assert [file.path.stem for file in found.files] == ["AFQMC", "BQ"]
    assert find_results(tmp_path).model == find_results(found.files[1].path).model == "org/small"


def test_results_with_other_arguments_are_another_model_and_taken_only_by_name(tmp_path: Path):
    revision = write_model(tmp_path, "org/small", {"AFQMC": {"validation": 0.5}}) / "1f"
    write_file(revision / "experiments" / "dim_64", "AFQMC", {"validation": 0.4})
    assert len(find_results(tmp_path).files) == 1
    assert find_results(revision / "experiments" / "dim_64").model == "org/small (dim_64)"


def test_ours_is_found_in_a_run_of_either_script_or_by_its_file(tmp_path: Path):
    evaluated = write_ours(tmp_path / "eval", {"STSB": 0.5})
    trained = write_ours(tmp_path / "train" / "evaluation", {"STSB": 0.5})
    shutil.copy(trained / "results.json", trained / "before.json")
    assert _ours(evaluated) == evaluated / "results.json"
    assert _ours(tmp_path / "train") == trained / "results.json"
    assert _ours(trained / "before.json") == trained / "before.json"
    assert find_results(evaluated).model == "mine"


def _ours(path: Path) -> Path | None:
    ours = find_results(path).ours
    return ours and ours.path


def _two_models(folder: Path) -> None:
    write_model(folder, "org/small", {"AFQMC": {"validation": 0.5}})
    write_model(folder, "org/large", {"AFQMC": {"validation": 0.5}})


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda folder: folder.rmdir(), "no such folder or file"),
        (lambda folder: None, "no results in it"),
        (lambda folder: (folder / "config.json").write_text('["a"]'), "no results in it"),
        (_two_models, r"different models \(org/large, org/small"),
        (lambda folder: write_ours(folder / "a", {}), r"1 runs with results: name one, as .*/a$"),
        (lambda folder: (folder / "AFQMC.json").write_text('{"task_name": "AF'), "AFQMC.json is not JSON"),
        (lambda folder: (folder / "results.json").write_text('{"results": 3}'), "is no results.json of"),
    ],
)
def test_what_is_no_result_of_one_model_is_one_error(tmp_path: Path, fill, message: str):
    folder = tmp_path / "given"
    folder.mkdir()
    fill(folder)
    with pytest.raises(UserError, match=message):
        find_results(folder)
