"""What an evaluation cannot do is one error before torch and mteb are imported; nothing is overwritten."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codiemb.config.eval_checks import check_evaluation
from codiemb.config.schema import EvalConfig, EvaluationTaskConfig
from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError
from tests.support.paths import ROOT
from tests.support.result_files import write_model, write_ours


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The names of a model's files; nobody reads what is in them."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    (folder / "tokenizer.json").write_text("{}")
    (tmp_path / "data/eval/test").mkdir(parents=True)
    return folder


def config(tmp_path: Path, task: dict | None = None, **model: object) -> EvalConfig:
    spec = ModelSpec(**{"path": str(tmp_path / "model"), **model})  # type: ignore[arg-type]
    chosen = EvaluationTaskConfig(**{"data": str(tmp_path / "data"), **(task or {})})
    return EvalConfig(model=spec, task=chosen, run_dir=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("task", "model_keys", "message"),
    [
        ({"name": "builtins"}, {}, "task.name='builtins' is none of builtin"),
        ({"split": "train"}, {}, "task.split='train' is none of dev, test"),
        ({"data": "nowhere"}, {}, "nowhere/eval/test: no such folder; run `make data`"),
        ({"name": "mteb", "tasks": ["STS71"]}, {}, "mteb has no STS71; did you mean STS17"),
        ({"name": "folder", "data": ""}, {}, "task=folder needs task.data=DIR"),
        ({"instructions": {"FramesST": {"query": "x"}}}, {}, "'FramesST' is neither a task name nor"),
        ({"instructions": {"FramesSTS": "x"}}, {}, "task.instructions.FramesSTS='x' must be by side"),
        ({"instructions": {"STS": {"query": 3}}}, {}, "task.instructions.STS.query=3 must be a text"),
        ({}, {"path": "no/such/folder"}, "model.path=no/such/folder: no such folder"),
        ({}, {"path": "nobody/has-this"}, "neither a local folder nor to be had from the hub"),
        ({}, {"loader": "mtep"}, "model.loader='mtep' is none of codiemb, mteb, youtu_api"),
        ({}, {"loader": "mteb", "name": "intfloat/e5-bass"}, "is not in the registry of mteb .*e5-base"),
        ({}, {"loader": "youtu_api"}, "model=youtu_api needs a key of Tencent Cloud"),
    ],
)
def test_a_bad_input_is_one_error(tmp_path, model, monkeypatch, task, model_keys, message) -> None:
    monkeypatch.delenv("TENCENTCLOUD_SECRET_ID", raising=False)
    monkeypatch.setattr("codiemb.encoder.model_files.hub_is_reachable", lambda: False)
    with pytest.raises(UserError, match=message):
        check_evaluation(config(tmp_path, task, **model_keys))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "is no model folder: it has no config.json"),
        ("model.safetensors", "has a config.json but no weights"),
        ("tokenizer.json", "has no tokenizer .*model.tokenizer=FOLDER_OR_HUB_ID"),
    ],
)
def test_a_folder_that_lacks_a_part_of_a_model_is_refused(tmp_path, model, file, message) -> None:
    check_evaluation(config(tmp_path))
    (model / file).unlink()
    with pytest.raises(UserError, match=message):
        check_evaluation(config(tmp_path))
    if file == "tokenizer.json":
        check_evaluation(config(tmp_path, tokenizer="owner/name"))  # the hub's
        other = shutil.copytree(model, tmp_path / "other")
        with pytest.raises(UserError, match=f"model.tokenizer={other} has no tokenizer"):
            check_evaluation(config(tmp_path, tokenizer=str(other)))
        (other / "spiece.model").write_text("")
        check_evaluation(config(tmp_path, tokenizer=str(other)))


def test_results_are_not_overwritten(tmp_path, model) -> None:
    write_ours(tmp_path / "run", {"FramesSTS": 0.5})
    asked = config(tmp_path)
    with pytest.raises(UserError, match="is there already: resume=true goes on"):
        check_evaluation(asked)
    asked.resume = True
    check_evaluation(asked)


CHILD = """
import json, sys
from pathlib import Path
from tests.support.harness import run_here
script = Path(sys.argv[1])
for arguments in json.loads(sys.argv[2]):
    sys.argv = [str(script), *arguments]
    code, _, said = run_here(script)
    heavy = [name for name in ("torch", "transformers", "mteb", "pytorch_lightning") if name in sys.modules]
    print(json.dumps([code, said.strip()[:60], heavy]))
"""


@pytest.mark.slow  # a process of its own
def test_neither_a_refusal_nor_a_table_imports_torch_or_mteb(tmp_path, model) -> None:
    a, b = (str(write_ours(tmp_path / name, {"FramesSTS": 0.5, "STSB": 0.5})) for name in "ab")
    theirs = str(write_model(tmp_path, "org/small", {"STSB": {"test": 0.5}}))
    data = [f"task.data={tmp_path / 'data'}", f"hydra.run.dir={tmp_path / 'run'}"]
    asked = [
        ["model.path=nowhere/at/all", *data],
        ["model=mteb", "model.name=intfloat/e5-bass", *data],
        ["task=mteb", "task.tasks=[STS71]"],
        [f"model.path={model}", "+task.instructions.FramesST.query=x", *data],
        [f"table=[{a},{theirs}]", *data],
        [f"compare=[{a},{b}]", *data],
    ]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOT / "run_eval.py"), json.dumps(asked)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == [2, 2, 2, 2, 0, 0], rows
    assert all(row[1].startswith("error: ") for row in rows[:4])
    assert [row[2] for row in rows] == [[]] * 6
    assert {"table.md", "table.csv", "comparison.md"} <= {file.name for file in (tmp_path / "run").iterdir()}
