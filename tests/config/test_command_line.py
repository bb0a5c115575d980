"""What the command line gets wrong is told before the imports of a run, with what may have been meant."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import get_args, get_origin, get_type_hints

import pytest

from codiemb.config.command_line import Script, check, check_command_line, refuse
from codiemb.config.known_keys import FIELDS, ROOT_KEYS
from codiemb.config.schema import EvalConfig, TrainConfig
from codiemb.config.usage import usage
from codiemb.errors import UserError
from codiemb.task_names import CMTEB, LOCAL
from tests.config.test_overrides_in_pages import overrides_in_prose
from tests.support.paths import CONF, ROOT

REFUSED = [
    ("task=buildin", "task=buildin: no such option; did you mean builtin?"),
    ("task=CMTEB", "task=CMTEB: no such option; did you mean cmteb"),
    ("task=builtin,cmtebb", "task=cmtebb: no such option; did you mean cmteb"),
    ("model=youtu3b", "did you mean youtu2b or youtu_api?"),
    ("model=BAAI/bge-m3", "Any other: model=pretrained model.path=FOLDER_OR_HUB_ID"),
    ("data=xyzzy", "data=xyzzy: no such option; there are: builtin, builtin_all, cmteb, files, weak_pairs"),
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
    ("losses.ir.info_nce.temprature=0.1", "no such key in losses.ir.info_nce; did you mean temperature?"),
    (
        "losses.ir.infonce.temperature=0.1",
        "losses.ir.infonce: no such key in losses.ir; did you mean info_nce",
    ),
    ("model.pooing=cls", "model.pooing: no such key in model; did you mean pooling"),
    ("model.lora.rr=8", "model.lora.rr: no such key in model.lora; "),
    ("tasks.ir.global_batch_sise=3", "did you mean global_batch_size"),
    ("evaluate.evry_n_steps=3", "did you mean every_n_steps"),
    ("callbacks.prob.num_records=3", "did you mean probe"),
    ("--learning_rate", "--learning_rate: no such flag; a key has no dashes: KEY=VALUE"),
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
    ("model=youtu2b", "--cfg", "job"),
    ("-c", "all", "--resolve"),
    ("++losses.ir.info_nce.other_positives=aligned",),
    ("++trainer.limit_train_batches=2", "++seed=3"),
    ("optimizer=sgd", "optimizer.momentum=0.5"),
    ("+losses.ir.info_nce.new=1", "losses.ir.info_nce.new=2"),
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
    with pytest.raises(
        UserError, match="here are: compare, devices, manifest, model, resume, run_dir, seed, table, task"
    ):
        check(Script(CONF, "eval"), [argument])


@pytest.mark.parametrize("root", ["train", "eval"])
def test_the_commands_of_the_help_pass_the_check_and_its_groups_are_whole(root: str) -> None:
    text = usage(CONF, root)
    commands = [line.split("  #")[0].split() for line in text.splitlines() if line.startswith("  python")]
    assert len(commands) >= 5
    for _, script, *arguments in commands:
        assert script == f"run_{root}.py"
        if not {"task=folder", "compare=[A,B]"} & set(arguments):  # these look at the folders
            check(Script(CONF, root), arguments)
    listed = {
        line.partition("=")[0].strip() for line in text.splitlines() if line[:3].strip() and "=" in line
    }
    if root == "train":
        groups = {path.name for path in CONF.iterdir() if path.is_dir()}
        assert groups - listed == {"callbacks", "hydra"}
    assert "[builtin]" in text


def test_help_ends_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["run_train.py", "model=minilm", "--help"])
    with pytest.raises(SystemExit) as stop:
        check_command_line(str(ROOT / "run_train.py"), "train")
    assert stop.value.code == 0
    assert "experiment=" in capsys.readouterr().out


def fields_of(kind: type, place: str = "") -> dict[str, tuple[str, ...]]:
    """The names of a dataclass and of those in it, by place."""
    found = {place: tuple(field.name for field in fields(kind))}
    for name, hint in get_type_hints(kind).items():
        for inner in filter(is_dataclass, (hint, *get_args(hint))):
            many = ".*" if get_origin(hint) is dict else ""
            found |= fields_of(inner, f"{place}.{name}{many}".removeprefix("."))
    return found


def test_the_keys_are_those_of_the_schema() -> None:
    train, evaluation = fields_of(TrainConfig), fields_of(EvalConfig)
    assert {"train": train.pop(""), "eval": evaluation.pop("")} == ROOT_KEYS
    assert train == FIELDS
    assert evaluation.items() <= train.items()


@pytest.mark.parametrize("override", [each for each in overrides_in_prose() if not each.startswith("$")])
def test_an_override_of_the_pages_is_let_through(override: str) -> None:  # $'...' is the shell's
    needed = {"sampler.weights": "sampler=weights", "losses.ir.distill_kl": "losses=distill"}
    check(Script(CONF, "train"), [override, *(group for key, group in needed.items() if key in override)])


@pytest.mark.slow  # it imports mteb
def test_the_names_are_those_of_the_tasks() -> None:
    from codiemb.evaluation import cmteb_tasks
    from codiemb.evaluation.builtin import OUTSIDE, TASKS

    names = [task.metadata.name for task in TASKS]
    assert [task.metadata.name for task in cmteb_tasks()] == list(CMTEB)
    outside = [task.metadata.name for task in OUTSIDE]
    assert sorted([*names, *outside, *(f"Nano{name}" for name in names)]) == sorted(LOCAL)


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
