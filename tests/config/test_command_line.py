"""What the command line gets wrong is told before the imports of a run, with what may have been meant."""

import subprocess
import sys
from dataclasses import fields

import pytest

from codiemb.config.command_line import ROOT_KEYS, Script, check, refuse
from codiemb.config.schema import EvalConfig, TrainConfig
from codiemb.config.task_names import BUILTIN, CMTEB
from codiemb.errors import UserError
from tests.support.paths import CONF, ROOT

REFUSED = [
    ("task=buildin", "task=buildin: no such option; did you mean builtin?"),
    ("task=CMTEB", "task=CMTEB: no such option; did you mean cmteb"),
    ("task=builtin,cmtebb", "task=cmtebb: no such option; did you mean cmteb"),
    ("model=youtu3b", "did you mean youtu2b?"),
    ("experiment=papr/released", "did you mean paper/released?"),
    ("data/sources=builtin_finetun", "did you mean builtin_finetune"),
    ("modle=bert_tiny", "modle: no such key or group; did you mean model?"),
    ("modle.path=x", "modle.path: no such key or group; did you mean model?"),
    ("data/source=x", "data/source: no such key or group"),
    ("epoch=3", "did you mean epochs?"),
    ("~modle", "modle: no such key or group; did you mean model?"),
    ("task.tasks=[FramesSTSS]", "task.tasks: no FramesSTSS of task=builtin; did you mean FramesSTS"),
    ("task.tasks=[FramesSTS],[framests]", "task.tasks: no framests of task=builtin; did you mean FramesSTS"),
    ("evaluate.dev_tasks=[FramesSTS,FrameRetrieval]", "evaluate.dev_tasks: no FrameRetrieval; did you mean"),
    ("finetune", "finetune: an argument is KEY=VALUE"),
    ("model.lora={r: 8", "model.lora={r: 8: cannot be read"),
    ("max steps=3", "max steps=3: cannot be read"),
    ("model.path=a b=c", "needs quotes for Hydra inside those for the shell"),
]
ACCEPTED = [
    ("+data.sources.mine.path=x.jsonl", "~data.sources.docs_ir", "+new=1"),
    ("hydra.run.dir=x", "hydra/sweeper=search", "-m", "seed=1,2,3", "model=youtu_tiny,bert_tiny"),
    ("experiment=paper/released", "task.tasks=[TNews]"),
    ("task=cmteb", "task.tasks=[TNews,STSB]"),
    ("task=mteb", "task.tasks=[STS17,SciFact]"),
    ("task.tasks=['FramesSTS',${oc.env:ONE}]", "debug=tiny", "experiment=null", "data/sources=null"),
    ("--config-name=mine", "modle=x"),
    ("model.lora={r: 8}", "model.path='a b=c'"),
]


@pytest.mark.parametrize(("argument", "says"), REFUSED)
def test_a_typo_is_named_with_what_may_have_been_meant(argument: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        check(Script(CONF, "train"), ["seed=1", argument])
    assert says in str(error.value)


@pytest.mark.parametrize("arguments", ACCEPTED)
def test_what_hydra_takes_is_let_through(arguments: tuple[str, ...]) -> None:
    check(Script(CONF, "train"), arguments)


@pytest.mark.parametrize(
    "argument", ["stage=finetune", "evaluate.before=false", "max_steps=3", "optimizer=sgd"]
)
def test_run_eval_has_keys_of_its_own(argument: str) -> None:
    with pytest.raises(UserError, match="There are: model, run_dir, seed, task"):
        check(Script(CONF, "eval"), [argument])


@pytest.mark.parametrize("kind", [TrainConfig, EvalConfig])
def test_the_keys_are_those_of_the_schema(kind: type) -> None:
    root = kind.__name__.removesuffix("Config").lower()
    assert sorted(ROOT_KEYS[root]) == sorted(field.name for field in fields(kind))


@pytest.mark.slow  # it imports mteb
def test_the_names_are_those_of_the_tasks() -> None:
    from codiemb.evaluation import cmteb_tasks
    from codiemb.evaluation.builtin_tasks import TASKS

    assert [task.metadata.name for task in cmteb_tasks()] == list(CMTEB)
    assert sorted(task.metadata.name for task in TASKS) == sorted(BUILTIN)


@pytest.mark.slow  # a process of its own
@pytest.mark.parametrize("script", ["run_train.py", "run_eval.py"])
def test_a_script_refuses_a_typo_before_it_imports_torch(script: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(ROOT / script)!r}, 'task=buildin']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n    print(stop.code, 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "2 False\n"
    assert result.stderr.startswith("\nerror: task=buildin: no such option; did you mean builtin?")


def test_only_one_rank_says_it(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop:
        refuse("typo")
    assert stop.value.code == 2
    assert capsys.readouterr().err == ""
