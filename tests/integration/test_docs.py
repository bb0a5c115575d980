"""Every command and every snippet of README and docs runs, in the small world and with small numbers.

```bash blocks run. ```console blocks are for other machines: they compose, or name what exists. A command
on several pages runs once, where it stands first. ```python blocks run by page, after all commands.
"""

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from data_prep.__main__ import main as prepare
from tests.support import chat_server
from tests.support.harness import TWO_RANKS, UNEVALUATED, Run
from tests.support.pages import blocks, commands, modules
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SMALL = (
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
)
LIGHT = ("callbacks.probe=null", "export.verify=false", "logger=local")  # but for the first command
USAGE = "docs/usage.md"  # tests/docs/test_usage.py: its tools are not all here
TASKS = {"pretrain": ("lm",), "align": ("ir",)}  # by stage; ("ir", "sts") of all others


@pytest.fixture(scope="module")
def users_files(world: Path) -> Iterator[None]:
    """What the pages take for granted: the user's data, model and modules."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    for block in blocks("json"):
        for line in block.text.splitlines():
            (world / f"{json.loads(line)['task_type']}.jsonl").write_text(f"{line}\n" * 20, "utf-8")
    tokenizer = AutoTokenizer.from_pretrained(world / "data/builtin/tokenizer")
    tokenizer.save_pretrained(world / "my_model")
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(world / "my_model")
    for name, text in modules().items():
        (world / name).write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(world)  # the user's modules lie beside run_train.py
        yield
    for name in modules():
        sys.modules.pop(name.removesuffix(".py"), None)


def params(commands: dict[str, str]) -> list[object]:
    """One test a command, named after its page."""
    return [pytest.param(command, id=f"{page}: {command}") for command, page in commands.items()]


BASH, CONSOLE = commands("bash"), commands("console")
ON_TWO_RANKS = " ".join(["python run_train.py", *TWO_RANKS])


def test_the_command_on_two_ranks_is_the_one_of_test_train() -> None:
    assert ON_TWO_RANKS in BASH


@contextlib.contextmanager
def model_served(command: str) -> Iterator[str]:
    """The command with the address of a server that is there, if it asks a model."""
    if "--endpoint" not in command:
        yield command
        return
    with chat_server.serving() as server:
        server.answer = chat_server.asks_and_queries
        yield re.sub(r"--endpoint \S+", f"--endpoint {server.url}", command)


PREPARE = {c: page for c, page in BASH.items() if c.startswith("python -m data_prep ")}


@pytest.mark.parametrize("command", params(PREPARE))
def test_the_step_runs(
    command: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "data_prep").mkdir(exist_ok=True)
    if not (world / "data_prep/pipelines").exists():
        (world / "data_prep/pipelines").symlink_to(ROOT / "data_prep/pipelines")
    monkeypatch.chdir(world)
    with model_served(command) as command:
        prepare(shlex.split(command)[3:])
    assert "data/own" in capsys.readouterr().out or "--dry-run" in command


@pytest.mark.parametrize(
    "command", params({c: page for c, page in BASH.items() if c != ON_TWO_RANKS and c not in PREPARE})
)
def test_the_command_runs(command: str, run: Run, world: Path, users_files: None) -> None:
    python, script, *overrides = shlex.split(command)
    assert python == "python"
    overrides = ["seed=1" if o == "seed=1,2" else o for o in overrides]  # two jobs of a grid, not four
    extra: list[str] = []
    stage = next((o.removeprefix("stage=") for o in overrides if o.startswith("stage=")), "finetune")
    if script == "run_train.py":
        own = any("model.path" in override for override in overrides)
        extra = [*(s for s in SMALL if not (own and s.startswith("model."))), *UNEVALUATED]
        tasks = ("mixed",) if "losses=mixed" in overrides else TASKS.get(stage, ("ir", "sts"))
        extra += [f"tasks.{task}.global_batch_size=16" for task in tasks]
        extra += [] if "debug=default" in overrides else ["max_steps=2"]
        if any(each.startswith("refresh.") for each in overrides):  # of two steps
            extra += ["refresh.every_n_steps=1", "~data.sources.docs_ir"]  # a copy of frames_ir here
        if "hydra/sweeper=search" in overrides:  # for the best score on something
            extra = [e for e in extra if e != "evaluate.after=false"]
            extra += ["task.tasks=[FramesSTS]", "task.baseline=false", "hydra.sweeper.n_trials=2"]
        if "fuse.search=true" in overrides:
            extra += [
                "task.tasks=[FramesSTS]",
                "fuse.search_exponents=[0]",
                "fuse.search_granularities=[row]",
                "fuse.search_scales=[0.5]",
            ]
        # the first command keeps the default loggers: W&B must not ask for a key
        extra += LIGHT if overrides else ()
    else:
        extra = ["task.split=dev"]
        if "resume=true" in overrides:  # all of the tasks were scored once
            extra.append("task.tasks=[FramesSTS]")
    result = run(script, *overrides, *extra)
    assert result.returncode == 0, result.stderr
    if script == "run_eval.py":
        assert "saved to" in result.stdout
        if "task=cmteb" in overrides:  # no hub here: counted, not averaged, beside the published rows
            assert "0 of 31" in result.stdout
            assert re.search(r"Youtu-Embedding.*77\.60", result.stdout)
    elif "-m" not in overrides:
        assert (world / f"outputs/{stage}/export/modules.json").is_file()


@pytest.mark.filterwarnings("ignore::UserWarning")  # sklearn's, of a handful of texts
@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")} - {USAGE}))
def test_the_python_of_the_page_runs(
    page: str, world: Path, users_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (world / "outputs/finetune/export").exists():
        pytest.fail("run the commands of this file first: they leave the export")
    monkeypatch.chdir(world)
    namespace: dict[str, object] = {}
    for block in blocks("python", [page]):
        exec(compile(block.text, page, "exec"), namespace)


@pytest.mark.parametrize("command", params({c: p for c, p in CONSOLE.items() if c.startswith("python run_")}))
def test_the_command_for_another_machine_composes(command: str, run: Run) -> None:
    _, script, *overrides = shlex.split(command)
    overrides = [o for o in overrides if o != "-m" and not o.startswith("seed=")]  # one job of a sweep
    result = run(script, *overrides, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    for model in [o.removeprefix("model=") for o in overrides if o.startswith("model=")]:
        assert f"name: {model}" in result.stdout


@pytest.mark.parametrize("command", params({c: p for c, p in CONSOLE.items() if c.startswith("python -m")}))
def test_the_module_exists(command: str) -> None:
    assert find_spec(shlex.split(command)[2]) is not None


@pytest.mark.parametrize("command", params({c: p for c, p in CONSOLE.items() if c.startswith("make")}))
def test_the_make_target_exists(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
