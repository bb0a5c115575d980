"""Memory that training on CPU frees stays mapped."""

import os
import resource
import sys
from unittest.mock import create_autospec

import pytest
import pytorch_lightning as pl
import torch

from codiemb.callbacks import cpu
from tests.support.forks import fork


def step() -> None:
    torch.ones(10, 2**20).sum()  # 40 MiB, more than malloc ever keeps: 10,240 pages of 4 KiB


def faults() -> int:
    """Of four steps after many others: small blocks settle between the large ones first."""
    for _ in range(20):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def as_glibc_has_it_then_kept() -> None:
    given_back = faults()
    assert cpu.keep_freed_memory()
    os.write(2, f"{given_back} {faults()}".encode())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="2026-11-22: other systems have no mallopt")
def test_the_next_step_finds_its_pages_mapped(tmp_path):
    process = fork(as_glibc_has_it_then_kept, output=tmp_path / "said")  # it holds until a process ends
    process.join(60)
    given_back, kept = (tmp_path / "said").read_text("utf-8").split()
    assert int(kept) < 100
    assert int(given_back) > 4 * 10  # even with huge pages of 2 MiB it maps them anew


@pytest.mark.parametrize(("device", "calls"), [("cpu", 1), ("cuda", 0)])
def test_it_is_for_training_on_cpu(monkeypatch, device, calls):
    called = []
    monkeypatch.setattr(cpu, "keep_freed_memory", lambda: called.append(True))
    trainer = create_autospec(pl.Trainer, instance=True)
    trainer.strategy.root_device = torch.device(device)
    cpu.KeepFreedMemory().setup(trainer, pl.LightningModule(), "fit")
    assert len(called) == calls


def test_a_system_without_glibc_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu.sys, "platform", "darwin")
    assert not cpu.keep_freed_memory()
