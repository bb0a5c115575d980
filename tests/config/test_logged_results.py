"""A dashboard ends with the result: what W&B's own reader, csv and JSON lines find of a run that is over."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import wandb
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from tensorboardX.proto import event_pb2
from wandb.cli.leet import launch_inspect

from codiemb.config import loggers
from codiemb.config.logged_results import attach_results, log_scores
from codiemb.config.schema import EvaluationTaskConfig
from codiemb.config.typed import typed_train
from codiemb.config.wandb_run import ID_FILE, identity
from codiemb.evaluation.results import Evaluation, MissingDataset, TaskScore
from codiemb.training import JsonlLogger


def evaluation(*scores: float, missing: tuple[MissingDataset, ...] = ()) -> Evaluation:
    rows = [
        TaskScore(f"T{number}", "Retrieval", "ndcg_at_10", score, 1.0, 5, {}, ("test",), "r1")
        for number, score in enumerate(scores, 1)
    ]
    return Evaluation("codiemb/tiny", "unknown", "2.26", tuple(rows), missing)


BEFORE, AFTER = evaluation(0.25, 0.5), evaluation(0.5, 0.75)
SCORES = {
    "before/T1/ndcg@10": 0.25,
    "before/T2/ndcg@10": 0.5,
    "before/mean": 0.375,
    "test/T1/ndcg@10": 0.5,
    "test/T2/ndcg@10": 0.75,
    "test/mean": 0.625,
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account, no server, and nothing written outside of the test's folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    wandb.teardown()


@pytest.fixture
def in_hydra(monkeypatch: pytest.MonkeyPatch):
    """As in a job of `python run_train.py -m losses.sts.pro.weight=0,1 seed=1,2 epochs=2`."""

    def start(*overrides: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run_train.py", "-m", "losses.sts.pro.weight=0,1", "epochs=2"])
        choices = {"stage": "finetune", "model": "bert_tiny", "data": "builtin", "losses": "codiemb"}
        node = {
            "mode": "MULTIRUN",
            "runtime": {"choices": choices | {"experiment": None}},
            "overrides": {"task": list(overrides)},
            "sweep": {"dir": "multirun/finetune/2026-11-22_00-50-36"},
        }

        config = OmegaConf.create({"hydra": OmegaConf.merge(OmegaConf.structured(HydraConf), node)})
        HydraConfig.instance().set_config(config)

    yield start
    HydraConfig.instance().cfg = None


def trainer_of(*of) -> pl.Trainer:
    return pl.Trainer(logger=list(of), accelerator="cpu", enable_progress_bar=False)


def of_wandb(capfd: pytest.CaptureFixture, file: Path, *, summary: bool = False) -> str:
    """What W&B's own reader (`wandb leet inspect`) finds in an offline file."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        launch_inspect(str(file), summary=summary, json_output=True)
    assert end.value.code == 0
    return capfd.readouterr().out


def run_once(cfg) -> pl.Trainer:
    """What train() does with loggers, without training."""
    plain = typed_train(cfg)
    with loggers.closed_loggers():
        trainer = trainer_of(*loggers.build_loggers(plain.logger, identity(plain)))
        loggers.open_loggers(trainer, cfg)
        trainer.loggers[0].log_metrics({"train/loss/ir": 1.0}, step=0)
        log_scores(trainer, plain.task, BEFORE, AFTER)
        (Path(plain.run_dir) / "report.html").write_text("<html>the report</html>", "utf-8")
        attach_results(trainer, plain, BEFORE, AFTER)
    return trainer


def test_wandb_s_own_reader_finds_scores_table_report_export_and_one_run_after_a_resume(
    composed, offline, in_hydra, capfd, tmp_path, monkeypatch
):
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    in_hydra("losses.sts.pro.weight=0", "seed=2", "epochs=2", "model=bert_tiny")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}", "utf-8")
    settings = ("seed=2", "logger.wandb.log_model=true", "model.name=${oc.env:TOKEN}", "~logger.csv")
    run_once(composed(*settings))
    run_once(composed(*settings, "resume=true"))
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2
    run_id = (tmp_path / ID_FILE).read_text("utf-8").strip()
    for file in files:
        records = [json.loads(line) for line in of_wandb(capfd, file).splitlines()]
        run = next(record["run"] for record in records if record["type"] == "run")
        # `wandb sync` uploads files of one id in the order of their start; `resume` makes it append
        assert (run["run_id"], run["resume"]) == (run_id, True)
        assert run["run_group"] == "finetune/2026-11-22_00-50-36"
        assert run["display_name"] == "finetune-bert_tiny-seed2 losses.sts.pro.weight=0"
        assert set(run["tags"]) == {"finetune", "bert_tiny", "builtin", "codiemb"}
        summary = json.loads(of_wandb(capfd, file, summary=True))
        assert {name: summary["summary"].get(name) for name in SCORES} == SCORES
        assert summary["state"] == "finished"
        artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
        assert f"export-{run_id}" in [each["name"] for each in artifacts if each["type"] == "model"]
        media = {path.suffix: path.read_text("utf-8") for path in file.parent.glob("files/media/*/*.*")}
        assert media[".html"] == "<html>the report</html>"
        assert ["T2", "ndcg@10", 0.5, 0.75, 0.25, None] in json.loads(media[".json"])["data"]
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert found == []


def test_a_name_of_the_config_s_own_goes_first_and_a_new_run_has_a_new_id(composed, in_hydra, tmp_path):
    in_hydra("seed=2", f"data.files=[{'x' * 200}.jsonl]")
    (tmp_path / ID_FILE).write_text("abc\n", "utf-8")
    fresh = identity(typed_train(composed()))
    assert "id" not in fresh
    assert len(fresh["name"]) == 128
    resumed = identity(typed_train(composed("resume=true")))
    assert resumed["id"] == "abc"
    node = {"_target_": "pytorch_lightning.loggers.WandbLogger", "name": "mine", "group": None}
    (logger,) = loggers.build_loggers({"wandb": node}, resumed)
    assert isinstance(logger, WandbLogger)
    assert logger.version == "abc"


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_columns_that_appear_at_the_end_leave_metrics_csv_whole_also_in_a_resumed_run(tmp_path):
    for steps in (3, 5):  # the resumed run starts the file anew
        logger = CSVLogger(str(tmp_path), name="csv", version="")
        for step in range(steps):
            logger.log_metrics({"train/loss/ir": 1.0 / (step + 1)}, step=step)
        logger.finalize("success")  # the end of training
        log_scores(trainer_of(logger), EvaluationTaskConfig(), BEFORE, AFTER)
        with (tmp_path / "csv" / "metrics.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["train/loss/ir"] for row in rows] == [*(str(1.0 / (n + 1)) for n in range(steps)), ""]
        assert {name: float(rows[-1][name]) for name in SCORES} == SCORES


def test_tensorboard_s_event_file_ends_with_the_scores(composed, offline, tmp_path):
    cfg = composed("logger=tensorboard", "logger.wandb=null", "logger.csv=null")
    trainer = trainer_of(*loggers.build_loggers(typed_train(cfg).logger))
    loggers.open_loggers(trainer, cfg)
    log_scores(trainer, EvaluationTaskConfig(), BEFORE, AFTER)
    trainer.loggers[-1].finalize("success")
    (file,) = tmp_path.glob("tensorboard/events.out.*")
    values = [value for event in events(file.read_bytes()) for value in event.summary.value]
    found = {value.tag: value.simple_value for value in values if "/" in value.tag}
    assert found == {name.replace("@", "_"): score for name, score in SCORES.items()}


def events(data: bytes) -> Iterator[event_pb2.Event]:
    """Of a file of records: length (8 bytes), its checksum (4), an event, its checksum (4)."""
    while data:
        end = 12 + int.from_bytes(data[:8], "little")
        yield event_pb2.Event.FromString(data[12:end])
        data = data[end + 4 :]


class Full(CSVLogger):
    """Like a server that has gone."""

    def log_metrics(self, *args: object, **kwargs: object) -> None:
        raise ConnectionError("gone")


def test_json_lines_have_one_line_of_scores_and_a_logger_that_fails_costs_nothing(tmp_path, caplog):
    task = EvaluationTaskConfig(name="nano", split="dev")
    dev = replace(AFTER, results=tuple(replace(row, splits=("dev",)) for row in AFTER.results))
    with caplog.at_level("WARNING", "codiemb"):
        log_scores(trainer_of(Full(str(tmp_path)), JsonlLogger(str(tmp_path))), task, None, dev)
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    row.pop("time")
    assert row == {"step": 0, "dev/T1/ndcg@10": 0.5, "dev/T2/ndcg@10": 0.75, "dev/mean": 0.625}
    assert "Full did not take the results: ConnectionError: gone" in caplog.text


def test_no_mean_over_part_of_the_tasks_and_no_line_without_scores(tmp_path):
    trainer, task = trainer_of(JsonlLogger(str(tmp_path))), EvaluationTaskConfig(name="cmteb")
    log_scores(trainer, task, None, None)
    assert not (tmp_path / "metrics.jsonl").exists()
    log_scores(trainer, task, None, evaluation(0.5, missing=(MissingDataset("T2", "d", "is not here"),)))
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert {name for name in row if "/" in name} == {"test/T1/ndcg@10"}


@pytest.mark.parametrize(
    ("task", "splits", "names"),
    [
        ("folder", ("test", "test"), {"test/T1/ndcg@10", "test/T2/ndcg@10", "test/mean"}),
        ("folder", ("dev", "validation"), {"dev/T1/ndcg@10", "dev/T2/ndcg@10", "dev/mean"}),
        ("folder", ("dev", "test"), {"dev/T1/ndcg@10", "test/T2/ndcg@10"}),  # one has that side alone
        ("builtin", ("dev", "dev"), {"dev/T1/ndcg@10", "dev/T2/ndcg@10", "dev/mean"}),
        ("cmteb", ("dev", "validation"), {"test/T1/ndcg@10", "test/T2/ndcg@10", "test/mean"}),
    ],
)
def test_scores_are_logged_by_the_side_that_was_scored(task, splits, names, tmp_path):
    rows = tuple(replace(row, splits=(split,)) for row, split in zip(AFTER.results, splits, strict=True))
    csv_logger = CSVLogger(tmp_path, name="", version="")
    log_scores(trainer_of(csv_logger), EvaluationTaskConfig(task), None, replace(AFTER, results=rows))
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert set(row) - {"step"} == names
