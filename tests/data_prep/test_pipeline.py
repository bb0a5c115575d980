"""A pipeline file is the chain of steps that it says, and a second run does only what has changed."""

import json
from pathlib import Path

import pytest
import yaml

from codiemb.errors import UserError
from data_prep.__main__ import main
from data_prep.fetch.recipe import load_recipe
from data_prep.pipeline import plan
from tests.support.paths import ROOT

RECORD = {"task_type": "ir", "query": ["", "", "a kettle"], "positives": [["", "", "it boils water"]]}


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A pipeline over two records, relative to the folder that a user is in."""
    monkeypatch.chdir(tmp_path)
    records = [RECORD, RECORD | {"query": ["", "", "a ladder"], "positives": [["", "", "it leads up"]]}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    text = """
out: road
sources:
  own:
    - fetch: {importer: codiemb, from: own.jsonl}
    - mine: {search: bm25, max_rank: 2}
    - mine: {search: bm25, max_rank: 1, name: second}
    - export
"""
    (tmp_path / "road.yaml").write_text(text)
    return tmp_path / "road.yaml"


def states(output: str) -> list[str]:
    return [line.split("[")[1].split("]")[0] for line in output.splitlines() if "  [" in line]


def test_the_plan_is_printed_first_and_only_what_has_changed_is_done(pipeline, capsys):
    main(["run", str(pipeline), "--dry-run"])
    printed = capsys.readouterr().out
    assert states(printed) == ["to do"] * 4
    assert "road/own/mine-2  [to do] search=bm25 name=second max_rank=1" in printed
    assert not (pipeline.parent / "road").exists()
    main(["run", str(pipeline)])
    capsys.readouterr()
    main(["run", str(pipeline), "--dry-run"])
    assert states(capsys.readouterr().out) == ["done"] * 4
    pipeline.write_text(pipeline.read_text().replace("max_rank: 1, name", "max_rank: 2, name"))
    main(["run", str(pipeline), "--dry-run"])
    assert states(capsys.readouterr().out) == ["done", "done", "to do", "to do"]
    main(["run", str(pipeline)])
    assert capsys.readouterr().out.count("has not changed") == 2
    assert len((pipeline.parent / "road/own/export/own.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("out: road", "outt: road", "unknown key 'outt'"),
        ("out: road", "", "needs out"),
        ("    - export", "    - exprot", r"sources.own\[3\]: no step 'exprot'; there are fetch"),
        (
            "max_rank: 2}",
            "max_rnk: 2}",
            r"sources.own\[1\].mine: unknown option 'max_rnk'; did you mean max_rank",
        ),
        ("max_rank: 2}", "max_rank: two}", "max_rank='two'"),
        (
            "    - fetch: {importer: codiemb, from: own.jsonl}\n",
            "",
            "the first step of a source must be fetch",
        ),
        ("    - export", "    - [export]", r"sources.own\[3\] must be a step's name"),
    ],
)
def test_a_slip_in_the_file_is_one_error_before_anything_runs(pipeline, old, new, words):
    pipeline.write_text(pipeline.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        main(["run", str(pipeline)])
    assert not (pipeline.parent / "road").exists()


def test_what_dedup_makes_of_several_sources_goes_on_as_one(tmp_path):
    chain = "[fetch: {importer: codiemb, from: own.jsonl}]"
    together = "[dedup: {priority: [b]}, mine, export, stats]"
    text = f"out: road\nsources:\n  a: {chain}\n  b: {chain}\ntogether: {together}\n"
    (tmp_path / "road.yaml").write_text(text)
    steps = {step.out: step.sources for step in plan(tmp_path / "road.yaml")}
    road = Path("road")
    assert steps[road / "dedup"] == (road / "a/fetch", road / "b/fetch")
    assert steps[road / "mine"] == (road / "dedup",)
    assert steps[road / "export"] == (road / "mine",)
    assert steps[road / "stats"] == (road / "export",)
    (tmp_path / "road.yaml").write_text(text.replace("dedup: {priority: [b]}, ", ""))
    with pytest.raises(UserError, match=r"together\[0\]\.mine: mine reads one source; put dedup before it"):
        list(plan(tmp_path / "road.yaml"))


@pytest.mark.parametrize("name", ["cmteb", "weak_pairs"])
def test_the_data_configs_name_what_their_pipelines_write(name):
    steps = plan(ROOT / f"data_prep/pipelines/{name}.yaml")
    exports = {step.out.parent.name: step for step in steps if step.name == "export"}
    sources = yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text("utf-8"))["sources"]
    assert {key: source["path"] for key, source in sources.items()} == {
        key: f"{step.out}/*.{step.options.format}" for key, step in exports.items()
    }
    for key, source in sources.items():
        recipe = load_recipe(key)
        assert ("score_range" in source) == (recipe.task == "sts")
        assert source.get("in_batch", True) == (recipe.importer != "labelled")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data_prep/pipelines").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_pipelines_of_the_repository_can_be_planned(path):
    assert [step.name for step in plan(path)]
