"""A port that is taken is one message, before any other rank is started or when it was taken only then."""

import queue
import socket
import subprocess
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch.distributed

from codiemb import start_watch
from codiemb.callbacks import StopTogether
from codiemb.config import run_folder
from codiemb.config.assemble import build_trainer
from codiemb.config.rendezvous import check_port
from codiemb.config.typed import typed_train
from codiemb.errors import UserError
from codiemb.stop import at_once

WAY_OUT = "set MASTER_PORT=NUMBER to another port, or unset it, and a free one is found"
RANKS = ("strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture
def taken():
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_refused_before_ranks_are_started(composed, monkeypatch, taken):
    monkeypatch.setenv("MASTER_PORT", str(taken))
    cfg = typed_train(composed(*RANKS))
    with pytest.raises(
        UserError, match=rf"^MASTER_PORT={taken}, where the ranks meet: .* in use; set MASTER_"
    ):
        build_trainer(cfg)
    build_trainer(typed_train(composed("trainer.accelerator=cpu")))  # one rank meets nobody


def test_the_port_of_torchrun_is_its_own(composed, monkeypatch, taken):
    set_by_torchrun = {
        "MASTER_ADDR": "localhost",
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 2,
        "GROUP_RANK": 0,
    }
    for name, value in {**set_by_torchrun, "MASTER_PORT": taken, "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, str(value))
    trainer = build_trainer(typed_train(composed(*RANKS, "hydra.run.dir=x")))
    assert trainer.world_size == 2
    assert all(each._child_watch is None for each in trainer.callbacks if isinstance(each, StopTogether))


@pytest.mark.parametrize("port", ["x", "0", "65536"])
def test_a_port_is_a_number(monkeypatch, port):
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(
        UserError, match=f"^MASTER_PORT={port} must be a number from 1 to 65535: set MASTER_PORT"
    ):
        check_port()


def test_a_port_that_was_taken_since_is_no_traceback(composed, monkeypatch, taken, capsys):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(taken))

    @run_folder.user_errors_without_traceback
    def main(cfg) -> None:
        torch.distributed.TCPStore("localhost", taken, 2, is_master=True)

    with pytest.raises(SystemExit, match="2"):
        main(composed())
    said = capsys.readouterr().err
    assert f"error: the ranks cannot talk at localhost:{taken} (MASTER_ADDR, MASTER_PORT): The server" in said
    assert said.endswith(
        "If it is taken, set MASTER_PORT=NUMBER to another port, or unset it, and a free one is found\n"
    )


def test_the_ranks_that_a_run_starts_are_watched(composed, monkeypatch):
    monkeypatch.setenv("CODIEMB_STARTED_BY", "")
    monkeypatch.setattr(at_once, "before_leaving", None)
    for name in ("_SECONDS", "_SECONDS_TO_LEAVE"):
        monkeypatch.setattr(start_watch, name, 0.05)
    told: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(StopTogether, "_end", lambda self, fault: told.put(fault))
    trainer = build_trainer(typed_train(composed(*RANKS)))
    with subprocess.Popen(["sleep", "60"]) as rank:
        trainer.strategy.launcher.procs = [rank]
        at_once.before_leaving()  # as a signal has it
        assert (
            told.get(timeout=20)
            == f"rank 1 (process {rank.pid}) was killed by SIGKILL before the ranks could talk"
        )


def test_a_rank_that_another_has_left_alone_ends_without_a_traceback(composed, capsys):
    """The watch has said which is gone, and how to go on."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module = pl.LightningModule()
    together = StopTogether()
    together._watch = SimpleNamespace(blame=lambda error: "rank 1 died", stopped=None)

    @run_folder.user_errors_without_traceback
    def main(cfg) -> None:
        try:
            raise RuntimeError("[pair.cc:538] Connection closed by peer")  # as gloo says it
        except RuntimeError as error:
            together.on_exception(trainer, module, error)

    with pytest.raises(SystemExit, match="1"):
        main(composed())
    assert capsys.readouterr().err == ""
    own = ArithmeticError("its own")
    together.on_exception(trainer, module, own)
    assert own.__notes__ == ["rank 1 died"]
