"""Which run `resume=true` continues, and when it refuses to."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from codiemb.config import assemble, resume, run_folder
from codiemb.config.typed import typed_train
from codiemb.errors import UserError
from codiemb.stop import Stopped
from codiemb.training.checkpoint_files import commit


def started(run_dir: Path, cfg, *, step: int | None = 4, age: float = 0) -> Path:
    """What a run leaves that was killed after `step` steps, `age` seconds ago."""
    run_folder.record_run(cfg, run_dir)
    os.utime(run_dir / "config.yaml", (1e9 - age, 1e9 - age))
    (run_dir / "checkpoints").mkdir()
    if step is not None:
        partial = run_dir / "checkpoints" / f"step-{step}.partial"
        partial.write_bytes(b"weights")
        commit(partial, step)
    return run_dir


def test_the_last_good_checkpoint_is_the_start(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    start = resume.starting_point(composed("resume=true"), run)
    assert start == (run / "checkpoints" / "step-4.ckpt", 4)


@pytest.mark.parametrize("folder", ["nothing", "killed before its first checkpoint"])
def test_without_a_checkpoint_the_run_starts_from_the_beginning_and_says_so(
    composed, tmp_path, caplog, folder
):
    run = tmp_path / "run"
    if folder != "nothing":
        started(run, composed(), step=None)
    with caplog.at_level("INFO", "codiemb"):
        assert resume.starting_point(composed("resume=true"), run) is None
    assert "no checkpoint" in caplog.text
    assert "starting from the beginning" in caplog.text


def test_a_folder_with_a_run_in_it_is_not_overwritten(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    with pytest.raises(UserError, match=r"holds a run already \(step-4\.ckpt\): resume=true continues it"):
        resume.starting_point(composed(), run)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.pooling=cls", "model.pooling: mean then, cls now"),
        ("seed=50", "seed: 49 then, 50 now"),
        ("tasks.ir.global_batch_size=32", "tasks.ir.global_batch_size: 64 then, 32 now"),
        (
            "~data.sources.docs_ir",
            "data.sources.docs_ir.path: data/builtin/train/docs_ir.jsonl then, (not set)",
        ),
        ("+data.sources.more.path=x.jsonl", "data.sources.more.path: (not set) then, x.jsonl now"),
        ("trainer.precision=bf16-mixed", "trainer.precision: 32-true then, bf16-mixed now"),
        ("max_steps=7", "max_steps: (not set) then, 7 now"),
        ("sampler=alternate", "sampler._target_: codiemb.data.Proportional then"),
    ],
)
def test_another_configuration_is_one_error_that_names_the_keys_and_the_command(
    composed, tmp_path, monkeypatch, override, says
):
    monkeypatch.setattr(sys, "argv", ["run_train.py", "model.lora={r: 8}"])
    run = started(tmp_path / "run", composed())
    with pytest.raises(UserError) as error:
        resume.starting_point(composed("resume=true", override), run)
    assert says in str(error.value)
    assert str(error.value).count(" then, ") == 1
    assert "run_train.py 'model.lora={r: 8}'" in str(error.value)


def test_a_key_that_the_run_s_version_did_not_have_counts_as_its_default(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    recorded = OmegaConf.load(run / "config.yaml")
    del recorded.tasks.sts.predict_from, recorded.seed
    OmegaConf.save(recorded, run / "config.yaml")
    assert resume.starting_point(composed("resume=true"), run).step == 4
    with pytest.raises(UserError, match=r"tasks\.sts\.predict_from: previous then, mask now"):
        resume.starting_point(composed("resume=true", "tasks.sts.predict_from=mask"), run)


def test_null_is_as_good_as_not_set(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    assert resume.starting_point(composed("resume=true", "+optimizer.foreach=null"), run).step == 4


def test_where_and_how_a_run_runs_may_change(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    changed = (
        "strategy=ddp",
        "trainer.devices=8",
        "trainer.accumulate_grad_batches=2",
        "trainer.on_nan=skip",
        "data.num_workers=7",
        "logger=local",
        "callbacks.checkpoint.every_n_steps=3",
        "encoder.max_tokens_per_chunk=512",
        "evaluate.after=false",
    )
    assert resume.starting_point(composed("resume=true", *changed), run).step == 4


def test_shards_are_for_the_strategy_that_wrote_them(composed, tmp_path):
    run = started(tmp_path / "run", composed("strategy=ddp"), step=None)
    partial = run / "checkpoints" / "step-4.partial"
    partial.mkdir()
    (partial / "shard").write_bytes(b"weights")
    commit(partial, 4)
    for now in (["strategy=ddp"], ["strategy=ddp", "strategy.timeout=9"]):
        assert resume.starting_point(composed("resume=true", *now), run).step == 4
    with pytest.raises(UserError, match=r"step-4\.ckpt was written by strategy .*DDPStrategy"):
        resume.starting_point(composed("resume=true", "strategy=auto"), run)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (["strategy=ddp"], ["strategy=deepspeed_zero1"]),
        (["strategy=ddp", "model.lora.r=4"], ["strategy=fsdp", "model.lora.r=4"]),
        (["strategy=fsdp", "model.lora.r=4"], ["strategy=auto", "model.lora.r=4"]),
        (["strategy=ddp", "encoder.train_only=o_proj"], ["strategy=fsdp", "encoder.train_only=o_proj"]),
    ],
)
def test_a_file_that_the_strategy_would_misread_is_refused(composed, tmp_path, then, now):
    run = started(tmp_path / "run", composed(*then))
    with pytest.raises(UserError, match=r"step-4\.ckpt was written by strategy .* cannot read it"):
        resume.starting_point(composed("resume=true", *now), run)
    assert resume.starting_point(composed("resume=true", *then), run).step == 4


def test_with_every_checkpoint_damaged_nothing_is_begun_anew_and_nothing_removed(composed, tmp_path):
    run = started(tmp_path / "run", composed())
    (run / "checkpoints" / "step-4.ckpt").write_bytes(b"wights")
    with pytest.raises(UserError, match=r"no checkpoint in .*checkpoints is whole .* remove the folder"):
        resume.starting_point(composed("resume=true"), run)
    assert (run / "checkpoints" / "step-4.ckpt").exists()


def test_a_run_with_a_result_has_finished(composed, tmp_path):
    assert not resume.has_finished(composed("resume=true"), tmp_path)
    (tmp_path / "result.json").write_text("{}", "utf-8")
    assert resume.has_finished(composed("resume=true"), tmp_path)
    assert not resume.has_finished(composed(), tmp_path)


def test_without_a_folder_the_stage_s_newest_unfinished_run_goes_on(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = composed()
    stage = Path("outputs/finetune")
    new = resume.new_or_unfinished_run("finetune", resume=True)
    assert Path(new).parent == stage
    started(stage / "older", cfg, age=200)
    started(stage / "newer", cfg, age=100)
    started(stage / "failed at once", cfg, step=None, age=50)
    finished = started(stage / "finished", cfg, age=10)
    (finished / "result.json").write_text("{}", "utf-8")
    started(Path("outputs/align/other"), cfg)
    assert resume.new_or_unfinished_run("finetune", resume=True) == str(stage / "newer")
    assert resume.new_or_unfinished_run("finetune", resume=False) not in ("", str(stage / "newer"))


def test_the_command_to_continue_keeps_the_overrides(tmp_path, monkeypatch):
    arguments = ["model.lora={r: 8}", "hydra.run.dir=elsewhere", "resume=false", "seed=1"]
    monkeypatch.setattr(sys, "argv", ["run_train.py", *arguments])
    assert resume.command(tmp_path) == (
        f"python run_train.py 'model.lora={{r: 8}}' seed=1 hydra.run.dir={tmp_path} resume=true"
    )
    # a rank that Lightning has started, and that speaks for a dead rank 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(
        sys, "argv", [*sys.argv, "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    )
    assert "process_1" not in resume.command(tmp_path)
    assert "output_subdir" not in resume.command(tmp_path)


@given(
    name=st.text(st.sampled_from("a1. ,=:'\"\\()[]{}$-~+@#%*!?&|;<>`\n试é/"), min_size=1)
    | st.sampled_from(["null", "true", "1e-3", "lr=1e-3, bs (4) 试验", "a\\", "a\\'", "${x}", "a\\${", "-a"])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
)
def test_the_command_to_continue_can_be_pasted_whatever_the_folder_s_name(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run_train.py", "++hydra.run.dir=elsewhere", "seed=1"])
        python, script, *overrides = shlex.split(resume.command(Path("/runs") / name))
    assert (python, script) == ("python", "run_train.py")
    parsed = OverridesParser.create().parse_overrides(overrides)
    assert [override.key_or_group for override in parsed] == ["seed", "hydra.run.dir", "resume"]
    assert not parsed[1].is_sweep_override()
    assert OmegaConf.create({"dir": parsed[1].value()}).dir == str(Path("/runs") / name)


def test_a_resumed_run_keeps_the_record_of_its_earlier_environments(composed, tmp_path, monkeypatch):
    for number in range(3):
        monkeypatch.setattr(sys, "argv", ["run_train.py", str(number)])
        run_folder.record_run(composed(), tmp_path)
    environment = json.loads((tmp_path / "environment.json").read_text("utf-8"))
    assert environment["command"] == "run_train.py 2"
    assert [entry["command"] for entry in environment["earlier"]] == ["run_train.py 0", "run_train.py 1"]


def test_a_disk_that_is_full_elsewhere_is_named_as_well(composed, tmp_path, capsys):
    @run_folder.user_errors_without_traceback
    def main(cfg) -> None:
        with open("/dev/full", "w") as file:
            file.write("a line of metrics")

    with pytest.raises(SystemExit) as stop:
        main(composed())
    assert stop.value.code == 2
    assert "error: the disk mounted at /" in capsys.readouterr().err


def test_a_run_that_was_stopped_says_how_to_go_on(composed, tmp_path, capfd):
    @run_folder.user_errors_without_traceback
    def main(cfg) -> None:
        raise Stopped("stopped by SIGTERM after step 7", signal.SIGTERM)

    with pytest.raises(SystemExit) as stop:
        main(composed())
    assert stop.value.code == 0
    said = capfd.readouterr().err
    assert "stopped by SIGTERM after step 7\ncontinue with: python " in said
    assert said.endswith(f"hydra.run.dir={tmp_path} resume=true\n")


def test_on_nan_of_the_trainer_group_reaches_the_callback_and_not_lightning(composed, tmp_path):
    cfg = typed_train(composed("trainer.on_nan=skip", "trainer.accelerator=cpu"))
    trainer = assemble.build_trainer(cfg)
    assert [callback.policy for callback in trainer.callbacks if hasattr(callback, "policy")] == ["skip"]
    assert len(trainer.checkpoint_callbacks) == 1


def test_the_run_folder_is_asked_for_once(composed, tmp_path, monkeypatch):
    """Two answers would be two folders."""
    monkeypatch.chdir(tmp_path)
    cfg = OmegaConf.create({"a": "${run_folder:finetune,false}", "b": "${run_folder:finetune,false}"})
    composed()  # registers the resolver
    assert cfg.a == cfg.b
    assert [str(path) for path in Path().glob("outputs/finetune/*")] == [cfg.a]


def test_a_new_run_takes_nothing_that_another_left_in_its_folder(composed, tmp_path):
    run_dir = tmp_path / "run"
    for name in ("evaluation/before.json", "result.json"):
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text("{}", "utf-8")
    run_folder.record_run(composed("resume=true"), run_dir)
    assert (run_dir / "result.json").is_file()
    run_folder.record_run(composed(), run_dir)
    assert not (run_dir / "result.json").exists()
    assert not (run_dir / "evaluation/before.json").exists()


def test_ranks_started_from_outside_share_a_folder_or_are_told_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert "slurm" not in resume.new_or_unfinished_run("finetune", resume=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert resume.new_or_unfinished_run("finetune", resume=False) == "outputs/finetune/slurm-4711.2"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UserError, match=r"add hydra\.run\.dir=outputs/finetune/NAME"):
        resume.new_or_unfinished_run("finetune", resume=False)
