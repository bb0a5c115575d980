"""Keeps mteb and its libraries from filling the terminal, and from touching the caller's random state."""

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import numpy as np
import torch

# the names that log or warn during an evaluation; a user wants our lines, and errors
LIBRARIES = (
    "mteb",
    "datasets",
    "huggingface_hub",
    "httpx",
    "httpx2",
    "bm25s",
    "sklearn",
    "sentence_transformers",
)


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """Only errors from the libraries: no info logs, no warnings raised in their code, no progress bars."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    had_bars = datasets.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        with warnings.catch_warnings():
            for name in LIBRARIES:
                warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            datasets.enable_progress_bars()


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """mteb seeds Python, NumPy and torch globally; an evaluation inside training must not replay dropout."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
