"""A small world for end-to-end tests, and two ways to run a script in it."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codiemb.evaluation.folder_tasks.tasks import LocalClassification, LocalClustering
from data_prep.frames.build import build_frames
from data_prep.frames.other_stages import ExtraSizes, build_frames_extra
from data_prep.frames.sizes import Sizes
from data_prep.tokenizer import train_tokenizer
from tests.support.harness import ENVIRONMENT, Finished, Run, run_here, start_fork
from tests.support.paths import ROOT


@pytest.fixture(autouse=True, scope="module")
def light_tasks() -> Iterator[None]:
    """2,048 draws of 16 texts show nothing that 128 do not, nor ten classifiers what three do not.

    Not of the session: tests of other folders compare with mteb's own numbers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalClustering, "max_documents_per_cluster", 128)
        patch.setattr(LocalClassification, "n_experiments", 3)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/builtin (a few hundred records) and its tokenizer."""
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data" / "builtin"
    build_frames(data, seed=1, size=Sizes.small(ir=300, sts=300, by=20))
    build_frames_extra(data, seed=1, size=ExtraSizes(300, 300, 100, 100, 40))
    for split in ("dev", "test"):  # the docs corpus takes a minute to build: frames stand in for it
        shutil.copytree(data / "eval" / split / "FramesRetrieval", data / "eval" / split / "DocsRetrieval")
    stand_ins = {"ir": ["ir"], "lm": ["lm"], "pairs": ["name", "body", "methods"]}
    for name, docs in stand_ins.items():
        for doc in docs:
            shutil.copy(data / "train" / f"frames_{name}.jsonl", data / "train" / f"docs_{doc}.jsonl")
    texts = (data / "train" / "frames_ir.jsonl").read_text("utf-8").splitlines()
    train_tokenizer(texts, data / "tokenizer", vocab_size=2_000)
    return folder


@pytest.fixture
def run(world: Path, unchecked_shapes: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a script in the small world as `python SCRIPT OVERRIDES` would, without paying for the imports."""

    def run_script(script: str, *overrides: str) -> Finished:
        with monkeypatch.context() as patch:
            patch.chdir(world)
            patch.setattr(sys, "argv", [str(ROOT / script), *overrides])
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            return run_here(ROOT / script)

    return run_script


@pytest.fixture
def run_process(world: Path, tmp_path: Path) -> Run:
    """The same in a process of its own, which can start further ranks: those are no forks."""

    def run_script(script: str, *overrides: str) -> Finished:
        return start_fork(world, tmp_path / "said", script, *overrides).finished()

    return run_script
