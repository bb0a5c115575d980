"""With several threads a gradient is the same to the bit each time: else no resumed run ends as another.

The other tests run in one thread (tests/support/fixtures.py), where no order can change.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from codiemb.data import Collator, TaskSpec
from codiemb.data.records import Record, Text
from codiemb.losses import DistillKL, InfoNCE, Pearson
from codiemb.take_rows import take_rows
from tests.support import tiny
from tests.support.batches import make_batch, value_and_gradients

PASSES = 20
MANY = 1_400  # rows of 32 numbers: torch shares more than 32,768 numbers among its threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def assert_same_every_time(gradients: Callable[[], list[Tensor]]) -> None:
    first = gradients()
    assert all(gradient.abs().sum() > 0 for gradient in first)
    for _ in range(PASSES):
        assert all(map(torch.equal, gradients(), first))


def test_rows_taken_many_times():
    table = torch.randn(3, 32, requires_grad=True)
    place, slope = torch.randint(3, (MANY,)), torch.randn(MANY, 32)
    assert_same_every_time(lambda: list(torch.autograd.grad(take_rows(table, place), table, slope)))
    (gradient,) = torch.autograd.grad(take_rows(table, place), table, slope)
    exact = torch.stack([slope[place == row].double().sum(dim=0) for row in range(3)])
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-4)


def test_a_batch_in_which_texts_are_repeated(byte_level):
    encoder = tiny.tiny_encoder("bert", byte_level)
    texts = [Text("", sentence) for sentence in tiny.SENTENCES[:3]]
    records = [Record("ir", text, [text], [], [], []) for text in texts]
    batch = Collator(encoder.tokenizer, {"ir": TaskSpec()}, seed=0)(
        records, source="s", epoch=0, indices=[0, 1, 2]
    )
    batch = batch._replace(document_sequence_N=torch.randint(3, (MANY,)))
    slope_ND = torch.randn(MANY, 32)

    def gradients() -> list[Tensor]:
        encoder.zero_grad()
        (encoder.embed(batch).document_ND * slope_ND).sum().backward()
        return [weight.grad.clone() for weight in encoder.parameters() if weight.grad is not None]

    assert_same_every_time(gradients)


@pytest.mark.parametrize("loss", [InfoNCE(), Pearson(), DistillKL()], ids=lambda loss: type(loss).__name__)
def test_a_loss_of_queries_with_many_documents(loss):
    each = torch.rand(MANY).tolist()
    groups = [(MANY - 300, 0), (300, 0)]  # rows of one query in the shares of several threads
    batch = make_batch(groups, scores=each, teacher_scores=each, dim=32, dtype=torch.float32)

    def gradients() -> list[Tensor]:
        return list(value_and_gradients(lambda embedded: loss(embedded).value, batch)[1].values())

    assert_same_every_time(gradients)
