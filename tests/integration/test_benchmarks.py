"""Every benchmark runs: tiny, one round, numbers without meaning.

The script runs in this process, as a process of its own would import 6 CPU s of libraries; those that it
starts are real.
"""

import sys

import pytest
import torch

from experiments.benchmarks.machine import matmul_rate
from tests.support.harness import run_here
from tests.support.paths import ROOT

SCRIPTS = {
    "info_nce": (["--threads", "1"], "| 700 | codiemb |"),
    "gpu_step": (["--model", "youtu_tiny", "--device", "cpu"], "| LoRA | ragged | padded |"),
    "encode_speed": (["--threads", "1"], "| Encoder.encode, bf16 |"),
    "train_speed": (["--threads", "1"], "| quick | codiemb, bf16, chunked |"),
    "dedup": ([], "| codiemb |"),
    "synthesise": ([], "| openai alone |"),
    "mine": ([], "| its search alone |"),
    "evaluate_speed": (["--data", "{world}/data/builtin"], "| DocsRetrieval |"),
}


def test_the_list_of_benchmarks_is_complete():
    scripts = {path.stem for path in (ROOT / "experiments" / "benchmarks").glob("*.py")}
    assert {name for name in scripts if "argparse" in _source(name)} == SCRIPTS.keys()


def _source(name: str) -> str:
    return (ROOT / "experiments" / "benchmarks" / f"{name}.py").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_and_writes_its_table(name, tmp_path, monkeypatch, request):
    options, line = SCRIPTS[name]
    if any("{world}" in option for option in options):
        options = [option.format(world=request.getfixturevalue("world")) for option in options]
    script, written = ROOT / "experiments" / "benchmarks" / f"{name}.py", tmp_path / "page.md"
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(matmul_rate, "__defaults__", (torch.float32, 64, 1, "cpu"))  # 3 s a rate
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", *options, "--out", str(written)])
    done = run_here(script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert line in written.read_text("utf-8")
