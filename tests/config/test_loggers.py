"""A logger that cannot be had is a warning; W&B goes offline. Neither asks for a key or a home."""

import contextlib
import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import wandb
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from codiemb.config import loggers
from codiemb.errors import UserError


class Broken(CSVLogger):
    """Like a server out of reach."""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        raise ConnectionError("nobody answers\n at length")


def without_its_package() -> Logger:
    raise ModuleNotFoundError("No module named 'comet_ml'")


def with_a_wrong_value() -> Logger:
    raise ValueError("no such mode")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine where nobody has logged in; what a test leaves in the environment goes again."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_INIT_TIMEOUT"):  # so that they are put back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def trainer_of(*of: Logger) -> pl.Trainer:
    monitor = LearningRateMonitor()
    return pl.Trainer(
        logger=list(of), callbacks=[monitor], accelerator="cpu", enable_progress_bar=False, barebones=False
    )


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without what the libraries say, and `quiet_libraries` keeps to itself."""
    return [record.getMessage() for record in caplog.records if record.name == "codiemb"]


@pytest.mark.parametrize(
    ("key", "netrc", "mode"),
    [
        (None, None, "offline"),
        ("", None, "offline"),
        ("0" * 40, None, None),
        (None, b"machine api.wandb.ai\n  login user\n  password \xff", None),
        ("", b"machine github.com", "offline"),
    ],
)
def test_an_empty_key_is_no_key(monkeypatch, tmp_path, key, netrc, mode):
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    if netrc is not None:
        (tmp_path / "netrc").write_bytes(netrc)
    loggers.build_loggers({})
    assert os.environ.get("WANDB_MODE") == mode


def test_a_user_without_a_home_has_not_logged_in(monkeypatch):
    def no_entry(path: str) -> str:
        return path  # what os.path.expanduser does without HOME and without an entry in passwd

    monkeypatch.delenv("NETRC")
    monkeypatch.setattr(os.path, "expanduser", no_entry)
    loggers.build_loggers({})
    assert os.environ["WANDB_MODE"] == "offline"


def test_wandb_that_cannot_be_had_goes_offline_with_one_warning(monkeypatch, tmp_path, caplog, composed):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "")  # refused at once, as a server out of reach is after 20 s
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # it reads its environment once, and another test of this process may have used it
    trainer = trainer_of(WandbLogger(project="test", save_dir=str(tmp_path)))
    with caplog.at_level("WARNING", "codiemb"):
        loggers.open_loggers(trainer, composed())
    wandb.finish()
    wandb.teardown()
    assert len(ours(caplog)) == 1
    assert "W&B cannot be had (UsageError: No API key" in caplog.text
    assert f"`wandb sync {tmp_path}/wandb/offline-run-*` uploads later" in caplog.text
    assert len(trainer.loggers) == 1
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_wandb_opens_without_a_warning(monkeypatch, tmp_path, composed):
    """Lightning gives it an argument that it warns of, in the first lines that a newcomer reads."""
    said = []
    monkeypatch.setattr(wandb, "termwarn", lambda text, **_: said.append(text))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    node = {"_target_": "pytorch_lightning.loggers.WandbLogger", "project": "test", "save_dir": str(tmp_path)}
    trainer = trainer_of(*loggers.build_loggers({"wandb": node}))
    with loggers.closed_loggers():
        loggers.open_loggers(trainer, composed())
    wandb.teardown()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert said == []


def test_every_job_of_a_process_has_its_own_run(monkeypatch, tmp_path, composed):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    runs = []
    for job in ("well", "badly", "again"):
        (tmp_path / job).mkdir()
        trainer = trainer_of(WandbLogger(project="test", save_dir=str(tmp_path / job)))
        with contextlib.suppress(ArithmeticError), loggers.closed_loggers():
            loggers.open_loggers(trainer, composed())
            runs.append(trainer.loggers[0].version)
            if job == "badly":
                raise ArithmeticError
        assert wandb.run is None
        assert len(list(tmp_path.glob(f"{job}/wandb/offline-run-*/*.wandb"))) == 1
    assert len(set(runs)) == 3
    wandb.teardown()


def test_another_logger_that_fails_is_left_out_with_one_warning(tmp_path, caplog, composed):
    kept = CSVLogger(str(tmp_path / "kept"))
    trainer = trainer_of(Broken(str(tmp_path)), kept)
    with caplog.at_level("WARNING", "codiemb"):
        loggers.open_loggers(trainer, composed())
    assert trainer.loggers == [kept]
    assert ours(caplog) == ["going on without Broken, which cannot be had: ConnectionError: nobody answers"]
    assert any(isinstance(callback, LearningRateMonitor) for callback in trainer.callbacks)


def test_without_any_logger_nothing_is_left_that_needs_one(tmp_path, composed):
    trainer = trainer_of(Broken(str(tmp_path)))
    loggers.open_loggers(trainer, composed())
    assert trainer.loggers == []
    assert not any(isinstance(callback, LearningRateMonitor) for callback in trainer.callbacks)


def test_a_logger_without_its_package_is_left_out_and_a_wrong_value_is_an_error(caplog):
    name = f"{__name__}.without_its_package"
    with caplog.at_level("WARNING", "codiemb"):
        assert loggers.build_loggers({"comet": {"_target_": name}, "off": None}) == []
    assert "going on without logger.comet" in caplog.text
    assert "No module named 'comet_ml'" in caplog.text
    with pytest.raises(UserError, match="no such mode"):
        loggers.build_loggers({"comet": {"_target_": f"{__name__}.with_a_wrong_value"}})


def test_wandb_waits_less_than_a_user_would(monkeypatch):
    loggers.build_loggers({})
    assert wandb.Settings().init_timeout != 20
    settings = wandb.Settings()
    settings.update_from_env_vars(os.environ)
    assert settings.init_timeout == 20
