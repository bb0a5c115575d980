"""What a config takes from the environment stays a name in every copy of it."""

import pytest
import pytorch_lightning as pl
import yaml
from omegaconf import OmegaConf
from pytorch_lightning.loggers import CSVLogger

from codiemb.config import resume, run_folder
from codiemb.config.loggers import open_loggers
from codiemb.config.secrets import masked, recorded, with_environment
from codiemb.errors import UserError
from codiemb.report import write_report

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("${oc.env:TOKEN}", "${oc.env:TOKEN}"),
        ("${first}", "${oc.env:TOKEN}"),
        ("https://user:${first}@host", "https://user:${oc.env:TOKEN}@host"),
        ("${oc.env:NONE,${oc.env:TOKEN}}", "${oc.env:NONE,${oc.env:TOKEN}}"),
        (r"${oc.env:NONE,'it\'s, so'}", r"${oc.env:NONE,'it\'s, so'}"),
        ("${oc.env:NONE,null}", "${oc.env:NONE,null}"),
        (r"\${first}", r"\${first}"),  # a text that only looks like one
        ("plain", "plain"),
    ],
)
def test_a_value_of_the_environment_is_recorded_by_name(text: str, kept: str) -> None:
    cfg = OmegaConf.create({"first": "${oc.env:TOKEN}", "deep": [{"x": text}], "all": "${deep}"})
    found = recorded(cfg)
    assert found == {"first": "${oc.env:TOKEN}", "deep": [{"x": kept}], "all": [{"x": kept}]}
    again = OmegaConf.create(found)  # and reads back as the same
    assert OmegaConf.to_container(again, resolve=True) == OmegaConf.to_container(cfg, resolve=True)


def test_a_number_of_the_environment_keeps_its_interpolation(composed, monkeypatch):
    monkeypatch.setenv("LENGTH", "64")
    cfg = composed("model.max_tokens=${oc.env:LENGTH}")
    assert cfg.tasks.ir.max_query_tokens == 64
    assert recorded(cfg)["model"]["max_tokens"] == "${oc.env:LENGTH}"
    assert cfg.tasks.ir.max_query_tokens == 64  # the resolver is itself again


def test_no_file_of_a_run_holds_the_secret(composed, tmp_path):
    cfg = composed("model.name=${oc.env:TOKEN}", "+logger.wandb.notes=by ${model.name}")
    run_folder.record_run(cfg, tmp_path)
    logger = CSVLogger(str(tmp_path), name="csv", version="")
    open_loggers(pl.Trainer(logger=logger, accelerator="cpu", enable_progress_bar=False), cfg)
    logger.save()
    write_report(tmp_path)
    files = {path.name: path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.yaml", "hparams.yaml", "report.html"} <= files.keys()
    assert not [name for name, text in files.items() if SECRET in text]
    assert yaml.safe_load(files["config.yaml"])["logger"]["wandb"]["notes"] == "by ${oc.env:TOKEN}"


def test_an_error_s_message_names_the_variable_instead(composed):
    cfg = composed("model.path=${oc.env:TOKEN}/model")
    assert masked(f"{SECRET}/model: no such folder", cfg) == "${oc.env:TOKEN}/model: no such folder"


def test_a_resume_compares_values_of_the_present_environment(composed, tmp_path, monkeypatch):
    run_folder.record_run(composed("model.name=${oc.env:TOKEN}"), tmp_path)
    for name in ("${oc.env:TOKEN}", SECRET):
        assert resume.starting_point(composed("resume=true", f"model.name={name}"), tmp_path) is None
    with pytest.raises(UserError, match=r"model.name: \$\{oc.env:TOKEN\} then, other now"):
        resume.starting_point(composed("resume=true", "model.name=other"), tmp_path)
    monkeypatch.delenv("TOKEN")
    with pytest.raises(UserError, match=r"oc.env:TOKEN\} cannot be had from the environment: .*'TOKEN' not"):
        resume.starting_point(composed("resume=true", "model.name=other"), tmp_path)


def test_what_is_no_interpolation_is_left_alone():
    assert with_environment(3) == 3
    assert with_environment("text") == "text"
