"""Hydra's and OmegaConf's refusals in words of ours: the key, what is wrong with it, and near names."""

import gc
import os

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from codiemb.config.script import explain, run_script
from codiemb.config.typed import typed_train
from codiemb.errors import UserError
from tests.config.conftest import _compose
from tests.support.paths import CONF

MISTAKES = [
    (
        "losses.ir.info_nce.temprature=0.1",
        "losses.ir.info_nce.temprature: no such key in losses.ir.info_nce; did you mean temperature",
    ),
    ("model.lora.rr=3", "model.lora.rr: no such key in model.lora; did you mean r"),
    ("modle.path=x", "modle: no such key; did you mean model"),
    ("tasks.ri.global_batch_size=3", "tasks.ri: no such key in tasks; there are: ir, sts"),
    ("optimizer.lr.x=3", "optimizer.lr.x: no such key in optimizer.lr"),
    ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
    ("evaluate.before=maybe", "evaluate.before: Value 'maybe' is not a valid bool"),
    ("task=buildin", "task=buildin: no such option; did you mean builtin?"),
    ("~losses.ir.nce", "Could not delete from config. 'losses.ir.nce' does not exist."),
    ("a=[1", "a=[1: cannot be read"),
    ("seed=1,2", "Ambiguous value for argument 'seed=1,2'"),
    ("losses@x=3", "Config group override must be a string or a list. Got int"),
]


@pytest.mark.parametrize(("override", "says"), MISTAKES)
def test_a_mistake_is_one_message_with_the_key_and_no_advice_of_hydra(override: str, says: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException, OSError, ValueError)) as error:
        _compose(CONF, "train", (override,))
    message = explain(error.value)
    assert message is not None
    assert says in message
    assert "not in struct" not in message
    assert "HYDRA_FULL_ERROR" not in message
    assert "object_type" not in message


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "model.name='${oc.env:NOBODY_SETS_THIS}'",
            "Environment variable 'NOBODY_SETS_THIS' not found",
        ),
        ("model.name='${modle.path}'", "model.name: Interpolation key 'modle.path' not found"),
        ("stage=???", "stage must be given: stage=VALUE"),
        ("+losses.ir.more='${nobody:1}'", "losses.ir.more: Unsupported interpolation type nobody"),
    ],
)
def test_a_value_that_cannot_be_had_is_an_error_of_the_user(composed, override: str, says: str) -> None:
    if override.startswith("stage"):
        cfg = composed()
        cfg.stage = "???"
    else:
        cfg = composed(override)
    with pytest.raises(UserError) as error:
        typed_train(cfg)
    assert says in str(error.value)


def main_that(raises: Exception, *, in_the_job: bool):
    """Like what hydra.main makes of a job."""

    def job() -> None:
        raise raises

    def main() -> None:
        if in_the_job:
            job()
        raise raises

    main.__wrapped__ = job
    return main


def test_a_folder_that_cannot_be_made_is_no_traceback(capsys):
    error = PermissionError(13, "Permission denied", "/proc/x")
    with pytest.raises(SystemExit) as stop:
        run_script(main_that(error, in_the_job=False))
    assert stop.value.code == 2
    assert "error: /proc/x: Permission denied; hydra.run.dir=FOLDER chooses" in capsys.readouterr().err


def test_what_the_job_raises_keeps_its_traceback():
    with pytest.raises(FileNotFoundError):
        run_script(main_that(FileNotFoundError(2, "No such file", "x"), in_the_job=True))
    with pytest.raises(ZeroDivisionError):
        run_script(main_that(ZeroDivisionError(), in_the_job=False))


@pytest.fixture(autouse=True)
def frozen(monkeypatch) -> list[bool]:
    """Whether the collector was off whenever everything was frozen; here nothing is."""
    calls: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(not gc.isenabled()))
    return calls


def test_what_the_imports_have_made_is_frozen_before_the_collector_begins(frozen):
    gc.disable()
    run_script(lambda: frozen.append(gc.isenabled()))
    assert frozen == [True, True]


def test_the_environment_is_as_before(monkeypatch):
    for before in (None, "0"):
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        if before is not None:
            monkeypatch.setenv("HYDRA_FULL_ERROR", before)
        run_script(lambda: None)
        assert os.environ.get("HYDRA_FULL_ERROR") == before
