"""Every command and every snippet of the README runs, in the small world and with small numbers."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.support.harness import TWO_RANKS, UNEVALUATED, Run
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text("utf-8")
SMALL = (
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "data.num_workers=0",
    "callbacks.probe.num_records=8",
    "trainer.accelerator=cpu",
)
TASKS = {"pretrain": ("lm",), "align": ("ir",)}  # by stage; ("ir", "sts") of all others


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(language: str) -> list[str]:
    """The command lines of these blocks, without comments."""
    lines = [line.split("  #")[0].strip() for block in blocks(language) for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def users_files(world: Path) -> None:
    """What the README takes for granted: the user's data and model."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    for block in blocks("json"):
        for line in block.splitlines():
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


ON_TWO_RANKS = " ".join(["python run_train.py", *TWO_RANKS])


def test_the_command_on_two_ranks_is_the_one_of_test_train() -> None:
    assert ON_TWO_RANKS in commands("bash")


@pytest.mark.parametrize("command", [command for command in commands("bash") if command != ON_TWO_RANKS])
def test_the_command_runs(command: str, run: Run, world: Path, users_files: None) -> None:
    python, script, *overrides = shlex.split(command)
    assert python == "python"
    extra: list[str] = []
    stage = next((o.removeprefix("stage=") for o in overrides if o.startswith("stage=")), "finetune")
    if script == "run_train.py":
        own = any("model.path" in override for override in overrides)
        extra = [*(s for s in SMALL if not (own and s.startswith("model."))), *UNEVALUATED]
        tasks = ("mixed",) if "losses=mixed" in overrides else TASKS.get(stage, ("ir", "sts"))
        extra += [f"tasks.{task}.global_batch_size=16" for task in tasks]
        extra += [] if "debug=default" in overrides else ["max_steps=2"]
        if "hydra/sweeper=search" in overrides:  # for the best score on something
            extra = [e for e in extra if e != "evaluate.after=false"]
            extra += ["task.tasks=[FramesSTS]", "task.baseline=false", "hydra.sweeper.n_trials=2"]
        # the first command keeps the default loggers: W&B must not ask for a key
        extra += [] if not overrides else ["logger=local"]
    else:
        extra = ["task.split=dev"]
    result = run(script, *overrides, *extra)
    assert result.returncode == 0, result.stderr
    if script == "run_eval.py":
        assert "saved to" in result.stdout
        if "task=cmteb" in overrides:  # no hub here: counted, not averaged, beside the published rows
            assert "0 of 31" in result.stdout
            assert re.search(r"Youtu-Embedding.*77\.60", result.stdout)
    elif "-m" not in overrides:
        assert (world / f"outputs/{stage}/export/modules.json").is_file()


@pytest.mark.parametrize("command", [c for c in commands("console") if c.startswith("python run_")])
def test_the_command_for_a_bigger_machine_composes(command: str, run: Run) -> None:
    _, script, *overrides = shlex.split(command)
    overrides = [o for o in overrides if o != "-m" and not o.startswith("seed=")]  # one job of a sweep
    result = run(script, *overrides, "--cfg", "job")
    assert result.returncode == 0, result.stderr
    assert "youtu2b" in result.stdout


@pytest.mark.parametrize("command", [c for c in commands("console") if c.startswith("make")])
def test_the_make_target_exists(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)


def test_the_python_snippet_runs_on_an_export(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (world / "outputs/finetune/export").exists():
        pytest.fail("run the commands of this file first: they leave the export")
    here = os.getcwd()
    os.chdir(world)
    try:
        exec(compile(blocks("python")[0], "README.md", "exec"), {})
    finally:
        os.chdir(here)
    assert "tensor" in capsys.readouterr().out
