"""Keep the libraries' chatter out of the user's terminal: our lines, warnings and progress stay."""

import logging
import os
import warnings

import torch
from transformers.utils import logging as transformers_logging

from codiemb.config.ranks import is_main_process

_LEVELS = {
    "pytorch_lightning": logging.WARNING,
    "lightning": logging.WARNING,
    "sentence_transformers": logging.WARNING,
    "httpx": logging.WARNING,
    "torch": logging.WARNING,
    "deepspeed": logging.ERROR,  # warns of what is so by design
    "DeepSpeed": logging.ERROR,
}
_KNOWN_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 on torch >= 2.10
    r".*does not have many workers.*",  # one worker keeps up with the trainer, see perf/data_wait
    r".*is_gradient_checkpointing.*",  # peft 0.21 on transformers 5
    r".*Checkpoint directory .* exists and is not empty.*",  # a chosen run folder
)


def quiet_libraries() -> None:
    """Raise log levels and drop warnings that say nothing to a user of this repository."""
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "false"
    )  # the loader's workers tokenise in parallel already
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed, imported by others, would warn instead
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if not is_main_process():
        logging.getLogger("codiemb").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    for pattern in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)
