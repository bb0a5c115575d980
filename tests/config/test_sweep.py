"""What a sweep leaves: mean and deviation over seeds, a plot, and a table even if jobs crash."""

import json
import math
from statistics import fmean, stdev

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from codiemb.config import ranks, run_folder
from codiemb.config.result import recorded_metric
from codiemb.config.sweep import SweepTable, group_seeds, groups_markdown
from codiemb.config.sweep_plot import plot_groups


def job(number, overrides, scores):
    return {"job": str(number), "overrides": overrides, "finished": bool(scores), "scores": scores}


JOBS = [
    job(0, ["x=1", "seed=1"], {"STS": 0.50, "IR": 0.10}),
    job(1, ["x=1", "seed=2"], {"STS": 0.60, "IR": 0.30}),
    job(2, ["x=1", "seed=3"], {"STS": 0.70, "IR": 0.20}),
    job(3, ["x=2", "seed=1"], {"STS": 0.80, "IR": 0.40}),
    job(4, ["x=2", "seed=2"], {}),
]


def test_jobs_that_differ_in_their_seed_alone_share_a_row_with_mean_and_sample_deviation():
    groups = group_seeds(JOBS)
    assert [group["overrides"] for group in groups] == ["x=1", "x=2"]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in groups_markdown(groups).splitlines()]
    assert rows[0] == ["overrides", "seeds", "STS", "IR", "mean"]
    means = [fmean(pair) for pair in ((0.5, 0.1), (0.6, 0.3), (0.7, 0.2))]
    expected = f"{100 * fmean(means):.2f} ± {100 * stdev(means):.2f}"
    assert rows[2] == ["x=1", "3", "60.00 ± 10.00", "20.00 ± 10.00", expected]
    assert rows[3] == ["x=2", "1", "80.00", "40.00", "60.00"]  # one run has no deviation


def test_seeds_alone_are_one_group():
    groups = group_seeds([job(n, [f"seed={n}"], {"STS": n / 10}) for n in (1, 2)])
    assert [(group["overrides"], len(group["means"])) for group in groups] == [("-", 2)]


def test_the_plot_is_a_picture_of_every_group_that_finished(tmp_path):
    plot_groups([*group_seeds(JOBS), {"overrides": "x=3", "scores": {}, "means": []}], tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def write_jobs(folder):
    for row in JOBS:
        hydra = folder / row["job"] / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text(json.dumps(row["overrides"]), "utf-8")
        if row["finished"]:
            (hydra.parent / "result.json").write_text(json.dumps({"scores": row["scores"]}), "utf-8")


def test_the_end_of_a_sweep_leaves_both_tables_and_the_plot_in_spite_of_a_job_without_result(
    tmp_path, capsys
):
    write_jobs(tmp_path)
    with pytest.raises(SystemExit) as stop:
        SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert stop.value.code == 2
    text = (tmp_path / "sweep.md").read_text("utf-8")
    assert text in capsys.readouterr().out
    assert "60.00 ± 10.00" in text
    assert "| 4   | x=2 seed=2 | -     | -     |" in text
    assert (tmp_path / "sweep.png").is_file()


def test_a_crash_in_one_job_keeps_its_traceback_and_does_not_end_the_sweep(capsys, monkeypatch):
    @run_folder.user_errors_without_traceback
    def crashes(cfg):
        raise KeyError("a bug")

    hydra_config = OmegaConf.create({"mode": RunMode.MULTIRUN})
    monkeypatch.setattr(ranks.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(ranks.HydraConfig, "get", lambda: hydra_config)
    assert crashes(OmegaConf.create()) is None
    assert "Traceback" in capsys.readouterr().err


def test_what_a_search_maximises_is_the_mean_score_of_a_finished_run(tmp_path):
    assert recorded_metric(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps({"scores": {}}), "utf-8")
    assert recorded_metric(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps({"scores": {"a": 0.2, "b": 0.6}}), "utf-8")
    assert math.isclose(recorded_metric(tmp_path), 0.4)


OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def start(sweeper, split):
    task = {"name": "builtin", "split": split}
    SweepTable().on_multirun_start(OmegaConf.create({"hydra": {"sweeper": sweeper}, "task": task}))


@pytest.mark.parametrize(
    ("direction", "split", "message"),
    [("maximize", "test", "task.split=dev"), ("Direction.minimize", "dev", "hydra/sweeper=search")],
)
def test_a_search_on_the_test_side_or_for_the_worst_is_refused_before_its_first_job(
    direction, split, message, capsys
):
    with pytest.raises(SystemExit) as stop:
        start({"_target_": OPTUNA, "direction": direction}, split)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_search_on_the_dev_side_may_start():
    start({"_target_": OPTUNA, "direction": "maximize"}, "dev")


def test_ranks_that_lightning_started_leave_checks_and_table_to_rank_0(tmp_path, monkeypatch):
    write_jobs(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    SweepTable().on_multirun_start(config)
    SweepTable().on_multirun_end(config)
    assert not (tmp_path / "sweep.md").exists()
