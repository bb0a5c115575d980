"""Which kind of device is taken."""

import pytest
import torch

from codiemb.config.accelerator import accelerator
from codiemb.errors import UserError


@pytest.mark.parametrize(("wanted", "with_card", "without"), [("auto", "cuda", "cpu"), ("cpu", "cpu", "cpu")])
def test_a_card_is_taken_unless_the_cpu_is_asked_for(monkeypatch, wanted, with_card, without):
    for there, taken in ((True, with_card), (False, without)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert accelerator(wanted) == taken


@pytest.mark.parametrize("wanted", ["gpu", "cuda"])
def test_a_card_that_is_not_there_is_one_error(monkeypatch, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert accelerator(wanted) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=rf"trainer\.accelerator={wanted}: torch sees no CUDA device"):
        accelerator(wanted)
