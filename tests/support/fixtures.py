"""Shared by all tests: tiny tokenizers, trained once, and no network."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import mteb  # noqa: F401  imported by codiemb it would be compiled anew, as the checked package is
import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings

from data_prep.tokenizer import train_tokenizer
from tests.support import tiny
from tests.support.tiny_run import KNOWN_WARNINGS, TinyRun

settings.register_profile("untimed", deadline=None)  # on a busy machine an example takes what it takes
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def no_hub() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1, which is read at import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """On matrices as tiny as these, threads only wait for each other: 5 times the time on a busy machine."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        yield


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """In whole runs checking takes a fifth of the time; each room's tests check its shapes, some runs all."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of the tiny models: byte-level BPE, no special tokens around a text."""
    out = tmp_path_factory.mktemp("byte_level")
    train_tokenizer(tiny.SENTENCES * 4, out, vocab_size=600)
    return out


@pytest.fixture(scope="session")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.wordpiece(tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="session")
def metaspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.metaspace(tmp_path_factory.mktemp("metaspace"))


@pytest.fixture(scope="session")
def qwen(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen(byte_level, tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that nothing stopped, for those that something did."""
    folder = tmp_path_factory.mktemp("resume") / "whole"
    with warnings.catch_warnings():
        for message in KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        TinyRun(folder).fit()
    return folder
