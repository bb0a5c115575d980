"""Every benchmark runs: tiny, one round, numbers without meaning."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

SCRIPTS = {
    "info_nce": (["--threads", "1"], "| 700 | codiemb |"),
    "gpu_step": (["--model", "youtu_tiny", "--device", "cpu"], "| LoRA | ragged |"),
    "encode_speed": (["--threads", "1"], "| Encoder.encode, bf16 |"),
    "train_speed": (["--threads", "1"], "| quick | codiemb, bf16, chunked |"),
}


def test_the_list_of_benchmarks_is_complete():
    scripts = {path.stem for path in (ROOT / "experiments" / "benchmarks").glob("*.py")}
    assert {name for name in scripts if "argparse" in _source(name)} == SCRIPTS.keys()


def _source(name: str) -> str:
    return (ROOT / "experiments" / "benchmarks" / f"{name}.py").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_and_writes_its_table(name, tmp_path):
    options, line = SCRIPTS[name]
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}", "--quick", *options]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "page.md")],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert line in (tmp_path / "page.md").read_text("utf-8")
