"""A user's mistake ends in one clear message and exit code 2, without a traceback and before any work."""

import json
from pathlib import Path

import pytest

from tests.support.harness import UNEVALUATED, Run

pytestmark = pytest.mark.slow


def expect_error(run: Run, script: str, *overrides: str, says: tuple[str, ...]) -> str:
    """Run, and check for one message that holds all of `says`."""
    result = run(script, *overrides)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "HYDRA_FULL_ERROR" not in result.stderr
    for part in says:
        assert part in result.stderr, result.stderr
    return result.stderr


def test_a_model_that_is_not_to_be_had_names_itself_and_the_ways_on(run: Run) -> None:
    ways = ("tencent/Youtu-LLM-2B-Base", "model.path=", "model.weights=random", "model=youtu_tiny")
    expect_error(
        run,
        "run_train.py",
        "stage=finetune",
        "model=youtu2b",
        "~data.sources.docs_ir",
        says=("error: ", *ways),
    )


def test_bad_lines_of_two_files_are_reported_together_with_file_and_line(run: Run, world: Path) -> None:
    good = json.dumps({"task_type": "ir", "query": ["", "", "q"], "positives": [["", "", "p"]]})
    (world / "one.jsonl").write_text(f"{good}\nnot json\n", "utf-8")
    (world / "two.jsonl").write_text(good.replace('"q"', '""') + "\n", "utf-8")
    message = expect_error(
        run,
        "run_train.py",
        "data=files",
        "data.files=[one.jsonl,two.jsonl]",
        says=(
            "2 bad records",
            "one.jsonl:2: not JSON",
            "two.jsonl:1: query has an empty text",
            "on_error=skip",
        ),
    )
    assert message.count("error:") == 1


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+optimizer.learning_rate=1", ("optimizer.learning_rate: no such key", "weight_decay")),
        ("trainer.accumulate_grad_batches=7", ("global_batch_size=64", "does not divide", "7")),
        ("+losses.sts.rank_kl.temprature=1", ("losses.sts.rank_kl.temprature", "did you mean temperature?")),
        ("stage=finetun", ("stage=finetun: no such option; did you mean finetune?",)),
        ("seed=abc", ("seed: Value 'abc' of type 'str' could not be converted to Integer",)),
        ("model.name='${oc.env:NOBODY_SETS_IT}'", ("model.name: ", "'NOBODY_SETS_IT' not found")),
        ("hydra.run.dir=/proc/nowhere", ("/proc/nowhere", "hydra.run.dir=FOLDER")),
        ("data.sources.frames_ir.path=nowhere.jsonl", ("nowhere.jsonl: no such file",)),
    ],
)
def test_a_wrong_key_or_number_is_named(run: Run, override: str, says: tuple[str, ...]) -> None:
    expect_error(run, "run_train.py", override, "~data.sources.docs_ir", *UNEVALUATED, says=says)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.split=tset", ("task.split='tset' is none of dev, test",)),
        ("task.tasks=[FramsSTS]", ("task.tasks: no FramsSTS", "did you mean FramesSTS or NanoFramesSTS?")),
        ("+task.instructions.Retreival.query=find", ("'Retreival' is neither", "did you mean Retrieval")),
        ("task.data=nowhere", ("nowhere/eval/test: no such folder; run `make data`",)),
    ],
)
def test_an_evaluation_that_would_fail_after_training_stops_before_it(
    run: Run, override: str, says: tuple[str, ...]
) -> None:
    expect_error(run, "run_train.py", override, "evaluate.before=false", says=says)


def test_a_prompt_that_fills_its_token_limit_stops_before_training(run: Run) -> None:
    expect_error(
        run,
        "run_train.py",
        "tasks.ir.max_query_tokens=4",
        "~data.sources.docs_ir",
        *UNEVALUATED,
        says=("source frames_ir", "fills all of max_tokens=4"),
    )


def test_a_long_instruction_deep_in_a_file_stops_before_training(run: Run, world: Path) -> None:
    record = {"task_type": "ir", "query": ["Find", "", "q"], "positives": ["p"]}
    texts = [{"query": ["Find", "", f"q {i}"], "positives": [f"p {i}"]} for i in range(100)]
    lines = [json.dumps(record | each) for each in texts]
    lines[70] = json.dumps(record | {"query": ["Find " * 200, "", "q"]})
    (world / "deep.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    options = ("data=files", "data.files=[deep.jsonl]", "tasks.ir.global_batch_size=16", *UNEVALUATED)
    expect_error(run, "run_train.py", *options, says=("source deep", "fills all of max_tokens=128"))


@pytest.mark.parametrize("script", ["run_train.py", "run_eval.py"])
def test_a_stage_started_on_a_folder_that_is_none_stops_before_any_work(
    run: Run, world: Path, script: str
) -> None:
    (world / "unfinished" / "export").mkdir(parents=True, exist_ok=True)
    runs = sorted(world.glob("outputs/*/*"))
    for path, says in (
        ("outputs/pretrian/export", ("outputs/pretrian/export: no such folder", "when it is done")),
        ("unfinished", ("is no model folder: it has no config.json",)),
    ):
        message = expect_error(run, script, f"model.path={path}", says=("error: ", "model.path=", *says))
        assert message.count("error:") == 1
        assert "examples" not in message
    new = [path for path in world.glob("outputs/*/*") if path not in runs]
    assert not any((folder / "config.yaml").exists() for folder in new)  # nothing was begun


def test_a_stage_whose_data_is_not_prepared_names_the_command(run: Run) -> None:
    expect_error(
        run,
        "run_train.py",
        "stage=pretrain",
        "data.sources.docs_lm.path=data/nowhere/docs_lm.jsonl",
        *UNEVALUATED,
        says=("data/nowhere/docs_lm.jsonl: no such file", "make data-all"),
    )


@pytest.mark.parametrize(
    ("axis", "problem"),
    [("+typo=1,2", "typo: no such key"), ("seed=1,2,-1", "seed=-1 must be at least 0")],
)
def test_a_sweep_over_what_no_run_takes_is_one_error_before_its_first_job(
    run: Run, world: Path, axis: str, problem: str
) -> None:
    folder = f"multirun/refused/{axis}"
    said = expect_error(
        run, "run_train.py", "-m", axis, "max_steps=1,2", f"hydra.sweep.dir='{folder}'", says=(problem,)
    )
    assert said.count("error:") == 1
    assert not (world / folder).exists()
