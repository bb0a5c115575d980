"""Negatives mined while training: by the weights of their step, for its batches, on any number of ranks."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from codiemb.data import content_hash
from codiemb.data.batches import PlannedBatches
from codiemb.data.mined import MinedNegatives, texts_at
from codiemb.mining.miner import Miner
from codiemb.mining.spec import RefreshSpec
from codiemb.training.checkpoint_files import last_good
from codiemb.training.strategies import FSDP2
from tests.support.resumed import Killed, StopBefore, assert_same_run, lines, state
from tests.support.tiny_run import DDP, KNOWN_WARNINGS, TinyRun, two_ranks

pytestmark = [
    pytest.mark.usefixtures("unchecked_shapes"),
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in KNOWN_WARNINGS),
]
WINDOW = {"num_negatives": 2, "max_rank": 20, "percent": None}
STEPS = 8
REPLACE = RefreshSpec(3, **WINDOW)
CONAN = RefreshSpec(3, rule="conan", factor=1.0, **WINDOW)  # random weights: all cosines are about 0.95


def tables(folder: Path) -> dict[int, list[torch.Tensor]]:
    (kept,) = (part for name, part in state(folder)["callbacks"].items() if "RefreshNegatives" in name)
    return kept["tables"]


@pytest.fixture(scope="module", params=[REPLACE, CONAN], ids=["replace", "conan"])
def whole(request, tmp_path_factory) -> tuple[RefreshSpec, Path]:
    """A run that nothing stopped, with searches after steps 3 and 6 (`conan` before the first, too)."""
    folder = tmp_path_factory.mktemp("refreshed") / "whole"
    TinyRun(folder, refresh=request.param, steps=STEPS).fit()
    return request.param, folder


def test_killed_between_searches_a_run_ends_bit_by_bit_as_one_that_was_not(whole, tmp_path):
    """The checkpoint lies at 4: a start goes on with the negatives of the search after step 3."""
    spec, expected = whole
    num_workers, killed_before = (2, [4, 7]) if spec.rule == "conan" else (0, [5])
    folder, options = tmp_path / "killed", {"refresh": spec, "num_workers": num_workers, "steps": STEPS}
    for step in killed_before:
        saved = last_good(folder / "checkpoints")
        with pytest.raises(Killed):
            TinyRun(folder, StopBefore(step), **options).fit(saved and saved.path)
    saved = last_good(folder / "checkpoints")
    assert saved is not None
    TinyRun(folder, **options).fit(saved.path)
    assert_same_run(folder, expected)
    assert_same_tables(folder, expected)


def test_killed_within_a_search_it_is_done_again(whole, tmp_path, monkeypatch):
    """The one after step 6, while workers wait for it; the checkpoint is that of the search before it."""
    spec, expected = whole
    folder, search, calls = tmp_path / "killed", Miner.search, []

    def killed(self, *arguments):
        calls.append(1)
        found = search(self, *arguments)
        if len(calls) == (3 if spec.rule == "conan" else 2):
            raise Killed
        return found

    options = {"refresh": spec, "num_workers": 2, "every_n_steps": 3, "steps": STEPS}
    monkeypatch.setattr(Miner, "search", killed)
    with pytest.raises(Killed):
        TinyRun(folder, **options).fit()
    saved = last_good(folder / "checkpoints")
    assert saved is not None
    assert saved.step == 3
    TinyRun(folder, **options).fit(saved.path)
    assert_same_run(folder, expected)
    assert_same_tables(folder, expected)


def assert_same_tables(folder: Path, other: Path) -> None:
    torch.testing.assert_close(tables(folder), tables(other), rtol=0, atol=0, equal_nan=True)


def test_each_search_is_logged_and_finds_something_new(whole):
    spec, folder = whole
    told = {row["step"]: row["refresh/ir/new"] for row in lines(folder) if "refresh/ir/new" in row}
    assert sorted(told) == ([0, 3, 6] if spec.rule == "conan" else [3, 6])
    assert 0 < told[3] < 1 or spec.rule == "replace"
    assert told[6] > 0


class Watched(pl.Callback):
    """The negatives in the batches of each step."""

    def __init__(self) -> None:
        self.documents: dict[int, set[int]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch.task == "ir":
            negative_N = ~batch.groups.is_positive_N
            self.documents[trainer.global_step] = set(batch.groups.document_hash_N[negative_N].tolist())


@pytest.mark.parametrize(("num_workers", "accumulation"), [(0, 1), (2, 2)])
def test_every_batch_has_negatives_of_the_last_search_before_its_step(
    tmp_path, monkeypatch, num_workers, accumulation
):
    """Of searches that find one text each: a positive of record number n is the negative of everybody."""
    number = [0]

    def search(self, source, query_RD, table, encoder):
        number[0] += 1
        codes = np.full((len(query_RD), 2), -1, dtype=np.int64)
        codes[:, 0] = number[0] << 20  # the first positive of record number n
        return codes, np.zeros_like(codes, dtype=np.float32)

    monkeypatch.setattr(Miner, "search", search)
    watched = Watched()
    run = TinyRun(
        tmp_path / "run",
        watched,
        refresh=REPLACE,
        num_workers=num_workers,
        steps=STEPS,
        accumulate_grad_batches=accumulation,
    )
    run.fit()
    source = run.data.sources[0]
    for step, found in watched.documents.items():
        if step < 3:
            assert len(found) > 1
        else:
            assert found == {content_hash(source[step // 3].positives[0].text)}
    assert len({step // 3 for step in watched.documents}) == 3


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks") / "one"
    TinyRun(folder, refresh=CONAN, dropout=0.0, steps=STEPS).fit()
    return folder


@pytest.mark.parametrize("strategy", ["ddp", FSDP2(save_distributed_checkpoint=False)], ids=["ddp", "fsdp"])
def test_two_ranks_find_what_one_finds_also_with_weights_in_shards(one_rank, tmp_path, strategy):
    """Without dropout, which every rank draws for itself; the weights agree to the rounding of sums."""
    folder = tmp_path / "two"
    run = TinyRun(folder, refresh=CONAN, dropout=0.0, steps=STEPS, **(DDP | {"strategy": strategy}))
    assert two_ranks(run.fit, tmp_path) == ["", ""]
    (codes, first), (codes_of_one, first_of_one) = tables(folder)[0], tables(one_rank)[0]
    torch.testing.assert_close(codes, codes_of_one, rtol=0, atol=0)
    torch.testing.assert_close(first, first_of_one, rtol=0, atol=1e-5, equal_nan=True)
    ours, theirs = state(folder)["state_dict"], state(one_rank)["state_dict"]
    for name, tensor in theirs.items():
        if not name.endswith("key.bias"):  # softmax does not see it: Adam scales up what rounding leaves
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-4, msg=name)


def test_without_a_search_nobody_waits_in_the_trainer_itself(tmp_path):
    run = TinyRun(tmp_path / "run", refresh=REPLACE)
    run.data.prepare_data()
    run.data.setup()
    mined = MinedNegatives(run.data.refreshed_sources(), 2, 3)
    batches: PlannedBatches = run.data.batches(mined=mined)
    ir = [step for step in range(3, 12) if batches.plan[step].source == 0]
    with pytest.raises(RuntimeError, match="nobody has mined"):
        batches[ir[0]]
    mined.publish(1, {0: np.zeros((40, 2), dtype=np.int64)})
    assert texts_at(run.data.sources[0], np.array([0])) == [run.data.sources[0][0].positives[0]]
