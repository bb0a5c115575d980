"""The check for a card runs to its end without one: each part on the CPU, and whatever becomes of a part."""

import importlib.util
import shutil
import sys
import time
from pathlib import Path

import pytest

from experiments.gpu_check import packed, strategies
from experiments.gpu_check.__main__ import check
from experiments.gpu_check.parts import ROOT, Part, gpu_tests, parts
from tests.support import tiny
from tests.support.harness import ENVIRONMENT, run_here

WRITES = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('# A table')"
HANGS = "import subprocess, sys; print('began', flush=True); subprocess.run(['sleep', '60'])"


def part(name: str, code: str, *arguments: str, limit: float = 30.0) -> Part:
    return Part(name, f"{name}?", (sys.executable, "-c", code, *arguments), limit)


def test_a_part_that_fails_or_hangs_stops_no_other_and_the_page_says_which(tmp_path):
    chosen = [
        part("hangs", HANGS, limit=1.0),  # what it has started ends with it, or this would wait
        part("falls", "import sys; print('the reason'); sys.exit(3)"),
        part("writes", WRITES, "{page}"),
    ]
    started = time.monotonic()
    assert not check(chosen, "NVIDIA H100 80GB", tmp_path)
    assert time.monotonic() - started < 30
    page = (tmp_path / "nvidia-h100-80gb.md").read_text("utf-8")
    assert "| hangs | hangs? | not done within 1 s |" in page
    assert "| falls | falls? | failed (exit code 3) |" in page
    assert "| writes | writes? | passed |" in page
    assert "began" in page
    assert "the reason" in page
    assert "### A table" in page
    assert check(chosen[2:], "CPU", tmp_path)


@pytest.mark.parametrize("small", [True, False])
def test_the_parts_exist_and_end_within_nine_minutes(small):
    found = parts("cuda", small=small)
    assert sum(part.limit for part in found) <= 9 * 60 - 5
    modules = [part.command[part.command.index("-m") + 1] for part in found]
    assert all(importlib.util.find_spec(module) for module in modules)
    assert {"tests/encoder/test_cuda.py", "tests/mining/test_top_k.py"} <= set(gpu_tests())


def test_every_architecture_is_compared_and_a_difference_is_seen(monkeypatch):
    text, fits = packed.table("cpu")
    assert fits
    assert text.count("| as padded |") == len(tiny.ARCHITECTURES)
    monkeypatch.setattr(packed.tiny, "ARCHITECTURES", {"bert": tiny.ARCHITECTURES["bert"]})
    monkeypatch.setitem(packed.LIMITS, packed.torch.float32, (0.0, 0.0))
    text, fits = packed.table("cpu")
    assert not fits
    assert "| bert | float32 | NOT as padded |" in text


@pytest.mark.parametrize(
    ("device", "strategy", "expected"),
    [
        ("cpu", "deepspeed_zero2", ["-m", "experiments.gpu_check.on_cpu"]),
        ("cpu", "fsdp", [str(ROOT / "run_train.py")]),
        ("cuda", "deepspeed_zero2", [str(ROOT / "run_train.py")]),
    ],
)
def test_only_deepspeed_on_a_cpu_is_started_in_another_way(tmp_path, monkeypatch, device, strategy, expected):
    """The small form has all strategies. The runs take too long for a test; tests/strategy has them."""
    started = []
    monkeypatch.setattr(strategies.subprocess, "run", lambda command, **_: started.append(command))
    arguments = [*strategies.overrides(device, tmp_path / "run"), f"strategy={strategy}"]
    strategies.start(arguments)
    assert started == [[sys.executable, *expected, *arguments]]


def test_a_resumed_run_is_as_one_process_and_a_strategy_that_is_not_is_seen(tmp_path: Path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def launch(arguments) -> None:
        if "strategy=auto" in arguments:  # stands for one whose losses are a little off
            shutil.copytree(tmp_path / "one", tmp_path / "auto")
            metrics = tmp_path / "auto" / "metrics.jsonl"
            metrics.write_text(
                metrics.read_text("utf-8").replace('"train/loss/sts": 2.', '"train/loss/sts": 2.1')
            )
            return
        # here: a process of its own would import for 6 CPU s
        monkeypatch.setattr(sys, "argv", [str(ROOT / "run_train.py"), *arguments])
        done = run_here(ROOT / "run_train.py")
        assert done.returncode == 0, done.stderr[-2000:]

    monkeypatch.chdir(tmp_path)
    text, fits = strategies.compare(tmp_path, "cpu", ("auto",), launch)
    assert not fits
    assert "| resumed | as one process | 0e+00 | 0e+00 |" in text
    assert "| auto | NOT as one process |" in text
