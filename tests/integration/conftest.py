"""A small world for end-to-end tests: miniature builtin data, a micro model, and a way to run the scripts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.frames.build import build_frames
from data_prep.frames.sizes import EvalSizes, Sizes
from data_prep.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/builtin (frames only, a few hundred records) and its tokenizer."""
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data" / "builtin"
    build_frames(data, seed=1, size=Sizes(ir=300, sts=300, test=EvalSizes().divided(20)))
    texts = (data / "train" / "frames_ir.jsonl").read_text("utf-8").splitlines()
    train_tokenizer(texts, data / "tokenizer", vocab_size=2_000)
    return folder


@pytest.fixture(scope="session")
def micro(world: Path) -> list[str]:
    """Overrides that make youtu_tiny smaller still and train it on the small world."""
    return [
        "~data.sources.docs_ir",
        "model.architecture.hidden_size=64",
        "model.architecture.intermediate_size=128",
        "data.num_workers=0",
        "tasks.ir.global_batch_size=16",
        "tasks.sts.global_batch_size=16",
        "logger=local",
        "evaluate.before=false",
        "evaluate.after=false",
    ]


@pytest.fixture(scope="session")
def run(world: Path) -> Run:
    """Run run_train.py or run_eval.py in the small world, as a user does; return the finished process."""

    def run_script(script: str, *overrides: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, str(ROOT / script), *overrides],
            cwd=world,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run_script
