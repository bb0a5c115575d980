"""What a run leaves behind: resolved config, environment, the link to its export, the table of a sweep."""

import json
import sys

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from codiemb.config import ranks, run_folder
from codiemb.config.ranks import is_main_process
from codiemb.config.sweep import SweepTable, read_jobs, sweep_markdown
from codiemb.errors import UserError


def test_a_run_records_its_resolved_config_and_its_environment(composed, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_train.py", "model.lora={r: 8}", "seed=1"])
    cfg = composed("model=youtu2b")
    run_folder.record_run(cfg, tmp_path / "new" / "run")
    config = OmegaConf.load(tmp_path / "new" / "run" / "config.yaml")
    assert OmegaConf.to_container(config) == OmegaConf.to_container(cfg, resolve=True)
    assert config.optimizer.lr == 4e-5
    assert "${" not in (tmp_path / "new" / "run" / "config.yaml").read_text("utf-8")
    environment = json.loads((tmp_path / "new" / "run" / "environment.json").read_text("utf-8"))
    assert environment["command"] == "run_train.py 'model.lora={r: 8}' seed=1"  # may be pasted into a shell
    assert set(environment) == {"command", "git_commit", "git_dirty", "python", "packages"}
    assert environment["packages"]["torch"]
    assert environment["packages"]["transformers"]


def test_no_git_is_no_reason_to_fail(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run_folder.record_run(composed(), tmp_path)
    environment = json.loads((tmp_path / "environment.json").read_text("utf-8"))
    assert environment["git_commit"] is None
    assert environment["git_dirty"] is False


@pytest.mark.parametrize("first", ["a training run", "an evaluation"])
def test_an_evaluation_does_not_overwrite_a_training_run_nor_one_an_evaluation(composed, tmp_path, first):
    """The config of the first would be lost, and with it the way to resume it."""
    training, evaluation = composed(), OmegaConf.create({"run_dir": str(tmp_path)})
    cfgs = [training, evaluation] if first == "a training run" else [evaluation, training]
    run_folder.record_run(cfgs[0], tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=f"holds {first}"):
        run_folder.record_run(cfgs[1], tmp_path)
    assert (tmp_path / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_rank_zero_is_the_main_process(monkeypatch, variable):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert is_main_process()
    monkeypatch.setenv(variable, "0")
    assert is_main_process()
    monkeypatch.setenv(variable, "1")
    assert not is_main_process()


# The link from the stage to its newest export


def finished_run(tmp_path, name):
    run = tmp_path / "outputs" / "finetune" / name
    (run / "export").mkdir(parents=True)
    return run


def test_the_link_points_at_the_newest_export_and_survives_moving_the_tree(tmp_path):
    for name in ("first", "second"):
        run = finished_run(tmp_path, name)
        run_folder.link_latest(run / "export", run)
        link = tmp_path / "outputs" / "finetune" / "export"
        assert link.resolve() == run / "export"
        assert not link.readlink().is_absolute()
    (tmp_path / "outputs").rename(tmp_path / "moved").joinpath("finetune").rename(tmp_path / "alone")
    assert (tmp_path / "alone" / "export").resolve() == tmp_path / "alone" / "second" / "export"


def test_the_link_replaces_one_that_leads_nowhere(tmp_path):
    run = finished_run(tmp_path, "new")
    (run.parent / "export").symlink_to("deleted")
    run_folder.link_latest(run / "export", run)
    assert (run.parent / "export").resolve() == run / "export"


def test_the_link_never_takes_the_place_of_a_real_folder(tmp_path):
    run = finished_run(tmp_path, "new")
    (run.parent / "export").mkdir()
    run_folder.link_latest(run / "export", run)
    assert not (run.parent / "export").is_symlink()
    assert sorted(path.name for path in run.parent.iterdir()) == ["export", "new"]


def test_runs_outside_of_outputs_get_no_link(tmp_path):
    run = tmp_path / "multirun" / "finetune" / "0"
    (run / "export").mkdir(parents=True)
    run_folder.link_latest(run / "export", run)
    assert [path.name for path in run.parent.iterdir()] == ["0"]


# User errors


@run_folder.user_errors_without_traceback
def fails(cfg):
    raise UserError("tasks.ir: wrong")


def test_a_user_error_is_one_message_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        fails(OmegaConf.create({"run_dir": "outputs"}))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "\nerror: tasks.ir: wrong\n"


def test_another_rank_says_in_a_line_what_only_it_may_know(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit) as stop:
        fails(OmegaConf.create({"run_dir": "outputs"}))
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(" (RANK=3): tasks.ir: wrong\n")


def test_a_user_error_in_one_job_does_not_end_a_sweep(capsys, monkeypatch):
    hydra_config = OmegaConf.create({"mode": RunMode.MULTIRUN})
    monkeypatch.setattr(ranks.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(ranks.HydraConfig, "get", lambda: hydra_config)
    fails(OmegaConf.create({"run_dir": "outputs"}))
    assert "tasks.ir: wrong" in capsys.readouterr().err


def test_other_errors_keep_their_traceback():
    @run_folder.user_errors_without_traceback
    def crashes(cfg):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        crashes(OmegaConf.create({"run_dir": "outputs"}))


# The table of a sweep


@pytest.fixture
def sweep(tmp_path):
    """Write the folder of one job of a sweep; without scores it did not finish."""

    def job(name, overrides, scores=None):
        folder = tmp_path / str(name)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides), "utf-8")
        if scores is not None:
            (folder / "result.json").write_text(json.dumps({"scores": scores, "seconds": 1.0}), "utf-8")
        return tmp_path

    return job


def test_the_sweep_table_shows_what_varied_and_every_score(sweep):
    sweep(0, ["stage=finetune", "seed=1", "sampler=alternate"], {"STS": 0.5, "Retrieval": 0.25})
    folder = sweep(1, ["stage=finetune", "seed=2", "sampler=alternate"], {"STS": 0.75})
    assert sweep_markdown(read_jobs(folder)).splitlines() == [
        "| job | overrides | STS   | Retrieval |",
        "| --- | --------- | ----- | --------- |",
        "| 0   | seed=1    | 50.00 | 25.00     |",
        "| 1   | seed=2    | 75.00 | -         |",
    ]


def test_jobs_are_in_the_order_of_their_numbers_and_unfinished_ones_are_shown(sweep):
    for number in range(10, -1, -1):
        folder = sweep(number, [f"seed={number}"], None if number == 3 else {"STS": number / 10})
    sweep("extra", ["seed=x"], {"STS": 0.1})
    (folder / "not_a_job").mkdir()
    jobs = read_jobs(folder)
    assert [job["job"] for job in jobs] == [*map(str, range(11)), "extra"]
    assert [job["job"] for job in jobs if not job["finished"]] == ["3"]
    assert "| 3     | seed=3    | -      |" in sweep_markdown(jobs)


def test_a_sweep_of_one_job_and_values_with_bars_keep_the_table_whole(sweep):
    folder = sweep(0, ["x=a|b"], {"STS": 0.5})
    assert "| 0   | -         | 50.00 |" in sweep_markdown(read_jobs(folder))
    folder = sweep(1, ["x=c"], {"STS": 0.5})
    assert r"| 0   | x=a\|b    | 50.00 |" in sweep_markdown(read_jobs(folder))


def multirun_ends(folder):
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))


def test_the_end_of_a_sweep_writes_and_prints_the_table(sweep, capsys):
    folder = sweep(0, ["seed=1"], {"STS": 0.5})
    multirun_ends(folder)
    table = (folder / "sweep.md").read_text("utf-8")
    assert table in capsys.readouterr().out
    assert json.loads((folder / "sweep.json").read_text("utf-8"))[0]["scores"] == {"STS": 0.5}


def test_a_sweep_with_an_unfinished_job_writes_its_table_and_exits_with_2(sweep, capsys):
    sweep(0, ["seed=1"], {"STS": 0.5})
    folder = sweep(1, ["seed=2"])
    with pytest.raises(SystemExit) as stop:
        multirun_ends(folder)
    assert stop.value.code == 2
    assert (folder / "sweep.md").read_text("utf-8") in capsys.readouterr().out


def test_a_sweep_without_jobs_leaves_nothing(tmp_path):
    multirun_ends(tmp_path)
    assert list(tmp_path.iterdir()) == []
