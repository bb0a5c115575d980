"""`table=` and `compare=` answer without a model, and a wrong folder is told before the imports."""

import json
from pathlib import Path

import pytest

from codiemb.config.command_line import Script, check
from codiemb.config.eval_tables import show_results
from codiemb.config.schema import EvalConfig
from codiemb.errors import UserError
from tests.support.paths import ROOT
from tests.support.result_files import write_model, write_ours


def test_each_question_is_answered_and_kept_in_the_run_folder(tmp_path: Path):
    a, b = (str(write_ours(tmp_path / name, {"FramesSTS": 0.5})) for name in "ab")
    titles: list[str] = []

    def ask(**question: object) -> bool:
        config = EvalConfig(run_dir=str(tmp_path / "run"), **question)
        return show_results(config, lambda sheet: titles.append(sheet.title))

    assert not ask()
    assert ask(table=a)
    assert ask(compare=[a, b])
    assert titles == ["Tasks", "What differs", "Scores"]
    written = sorted(path.name for path in (tmp_path / "run").iterdir())
    tables = ["table.csv", "table.json", "table.md", "table.png"]
    assert written == ["comparison.json", "comparison.md", *tables]
    with pytest.raises(UserError, match="one at a time"):
        ask(table=[a], compare=[a, b])


def test_a_manifest_says_which_tasks_of_the_table_its_data_was_searched_for(tmp_path: Path):
    tasks = {"FramesSTS": 0.5, "DocsRetrieval": 0.4, "FramesRetrieval": 0.3, "FramesReranking": 0.2}
    a = str(write_ours(tmp_path / "a", tasks))  # all on texts of revision abc
    texts = {
        "FramesSTS": "abc",
        "DocsRetrieval": "dev's",
        "dev/DocsRetrieval": "abc",
        "FramesRetrieval": "old",
    }
    checked = [{"name": n, "revision": r, "splits": ["test"], "texts": 1200} for n, r in texts.items()]
    (tmp_path / "export").mkdir()
    manifest = tmp_path / "export" / "manifest.json"
    manifest.write_text(json.dumps({"step": "export", "checked_against": checked}))
    sheets = []

    def ask(**question: object) -> bool:
        return show_results(EvalConfig(run_dir=str(tmp_path / "run"), **question), sheets.append)

    assert ask(table=a, manifest=str(tmp_path / "export"))
    rows = {row[0]: row[1:] for row in sheets[-1].rows}
    assert {name: rows[name] for name in tasks} == {
        "FramesSTS": ("checked", "test", "1,200"),
        "DocsRetrieval": ("checked", "test", "1,200"),
        "FramesRetrieval": ("checked for other texts", "test", "1,200"),
        "FramesReranking": ("not checked", "–", "–"),
    }
    assert "FramesSTS" in (tmp_path / "run" / "checked.md").read_text("utf-8")
    with pytest.raises(UserError, match="give table="):
        ask(manifest=str(manifest))
    with pytest.raises(UserError, match="no such file"):
        ask(table=a, manifest=str(tmp_path / "gone"))
    manifest.write_text("{}")
    with pytest.raises(UserError, match="no manifest of data_prep"):
        ask(table=a, manifest=str(manifest))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("table=[{0}/mixed/nope]", "table: .*/nope: no such folder"),
        ("table=[{0}/mixed]", r"table: .* different models \(org/large, org/small"),
        ('table=["{0}/mixed/org__small",{0}/empty]', "table: .*/empty: no results in it"),
        ("table=[]", r"name folders of results in brackets: table=\[A,B\]"),
        ("table={0}/a,{0}/b", "name folders of results in brackets"),
        ("compare=[{0}/mixed/org__small]", "compare takes two folders"),
        ("table=[3]", "table: 3: no such folder"),
    ],
)
def test_folders_are_checked_with_the_command_line(tmp_path: Path, argument: str, message: str):
    for model in ("org/small", "org/large"):
        write_model(tmp_path / "mixed", model, {"AFQMC": {"validation": 0.5}})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        check(Script(ROOT / "conf", "eval"), [argument.format(tmp_path)])


def test_folders_with_results_pass(tmp_path: Path):
    folder = write_model(tmp_path, "org/small", {"AFQMC": {"validation": 0.5}})
    check(Script(ROOT / "conf", "eval"), [f"table=[{folder}]"])
    check(Script(ROOT / "conf", "eval"), [f'compare=["{folder}",{folder}]'])
