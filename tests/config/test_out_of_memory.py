"""Memory that is not enough says what to lower, and keeps what the library said."""

import errno

import numpy as np
import pytest
import torch

from codiemb.config import run_folder
from codiemb.config.out_of_memory import advice


def too_much_torch() -> None:
    torch.empty(2**60)


def too_much_numpy() -> None:
    np.empty(2**60, dtype=np.uint8)


def too_much_inside() -> None:
    try:
        too_much_torch()
    except RuntimeError as error:
        raise RuntimeError("the loader failed") from error


def too_many_processes() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def too_much_cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


FAILURES = [too_much_torch, too_much_numpy, too_much_inside, too_many_processes, too_much_cuda]


@pytest.mark.parametrize("failure", FAILURES)
def test_the_message_names_what_to_lower_and_what_was_said(failure, composed, capsys):
    @run_folder.user_errors_without_traceback
    def main(cfg) -> None:
        failure()

    with pytest.raises(SystemExit) as stop:
        main(composed())
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "error: out of memory: lower encoder.max_tokens_per_chunk" in said
    assert "tasks.*.global_batch_size" in said
    assert "llocat" in said.splitlines()[-1]


def test_other_errors_are_not_about_memory():
    for error in (RuntimeError("shapes differ"), OSError(errno.ENOENT, "gone"), ValueError("memory")):
        assert advice(error, training=True) is None
