"""Memory that training on CPU frees stays mapped."""

import subprocess
import sys
from unittest.mock import create_autospec

import pytest
import pytorch_lightning as pl
import torch

from codiemb.callbacks import cpu

# of four steps after many others: as glibc has it, then kept
_FAULTS = """
import resource, torch
from codiemb.callbacks.cpu import keep_freed_memory
def step():
    return torch.ones(10, 2**20).sum()  # 40 MiB, more than malloc ever keeps: 10,240 pages of 4 KiB
def faults():
    for _ in range(20):  # small blocks settle between the large ones first
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
assert keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="2026-11-22: other systems have no mallopt")
def test_the_next_step_finds_its_pages_mapped():
    command = [sys.executable, "-c", _FAULTS]  # a process of its own: it holds until that ends
    given_back, kept = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
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
