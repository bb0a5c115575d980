"""experiment=first computes in bf16 where the machine has instructions for it, and its record says so."""

import pytest
import torch

from codiemb.config.precision import fast_precision
from codiemb.config.secrets import recorded


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_the_first_run_trains_in_bf16_where_the_cpu_has_it_and_the_record_holds_the_answer(
    composed, monkeypatch, capabilities, precision
):
    """A run that goes on where the answer is another one is refused as for any other precision."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    first = composed("experiment=first", "run_dir=run")
    assert first.trainer.precision == recorded(first)["trainer"]["precision"] == precision
    assert composed().trainer.precision == "32-true"  # nothing else asks


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_card_is_asked_before_the_cpu(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert fast_precision("auto") == precision
    assert fast_precision("cpu") == "32-true"
