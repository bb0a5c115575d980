"""Two gloo ranks evaluate as one process does: the same scores, no text twice, one end for all."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from codiemb.encoder import Encoder
from codiemb.encoder.over_ranks import over_ranks
from codiemb.evaluation import Evaluator
from codiemb.evaluation.builtin import builtin_tasks
from codiemb.stop import RankLost
from codiemb.text_encoder import TextEncoder
from codiemb.training import sharded_encoder
from codiemb.training.sharding import shard
from tests.support.forks import fork
from tests.support.tiny import tiny_encoder

TASKS = ("FramesRetrieval", "FramesSTS", "FramesClassification")
Rank = Callable[[int, Path], None]


@pytest.fixture(scope="module")
def evaluator(builtin_data: Path) -> Evaluator:
    tasks = [task for task in builtin_tasks(builtin_data, "test") if task.metadata.name in TASKS]
    return Evaluator(tasks, {"Retrieval": {"query": "Find"}})


@pytest.fixture(scope="module")
def encoder(byte_level: Path) -> Encoder:
    return tiny_encoder("bert", byte_level)


class Counting:
    """Counts the texts of this rank."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.num_texts: list[int] = []

    def encode(self, texts, *, instruction="", side=None, progress=False) -> np.ndarray:
        self.num_texts.append(len(texts))
        return self.encoder.encode(texts, instruction=instruction, side=side)


class Failing:
    """The first call of one rank goes wrong."""

    def __init__(self, how: Callable[[], None]) -> None:
        self.how = how

    def encode(self, texts, *, instruction="", side=None, progress=False) -> np.ndarray:
        self.how()
        return np.ones((len(texts), 4), np.float32)


def two_ranks(function: Rank, folder: Path) -> list[tuple[int, str]]:
    """Exit code and output of each; both must end."""
    ranks = [fork(join, number, function, folder, output=folder / f"said{number}") for number in range(2)]
    for process in ranks:
        process.join(60)
        assert process.exitcode is not None, "a rank hangs"
    return [(p.exitcode, (folder / f"said{number}").read_text("utf-8")) for number, p in enumerate(ranks)]


def join(number: int, function: Rank, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=number, world_size=2)
    try:
        function(number, folder)
    except RankLost:
        os._exit(3)


def scores(evaluator: Evaluator, encoder: TextEncoder) -> np.ndarray:
    return np.array(
        [value for result in evaluator.run(encoder, bm25=False).results for value in result.metrics.values()]
    )


@pytest.mark.parametrize("sharded", [False, True])
def test_the_scores_are_those_of_one_process(evaluator, encoder, tmp_path, sharded) -> None:
    """With whole weights, and with weights in shards, where every forward pass is one of both ranks."""

    def run(number: int, folder: Path) -> None:
        if sharded:
            shard(encoder, None, dist.init_device_mesh("cpu", (2,)))
        counting = Counting(sharded_encoder.runnable(encoder))
        found = over_ranks(counting, lambda shared: scores(evaluator, shared))
        over_ranks(sharded_encoder.runnable(encoder), lambda shared: shared.encode(["fewer than ranks"]))
        np.save(folder / f"texts{number}.npy", counting.num_texts)
        assert (found is None) == (number == 1)
        if found is not None:
            np.save(folder / "scores.npy", found)

    alone = Counting(encoder)
    expected = scores(evaluator, alone)
    assert [code for code, _ in two_ranks(run, tmp_path)] == [0, 0]
    assert np.load(tmp_path / "scores.npy") == pytest.approx(expected, abs=1e-6, nan_ok=True)
    first, second = (np.load(tmp_path / f"texts{number}.npy") for number in range(2))
    assert (first + second).tolist() == alone.num_texts, "nobody repeats another's work"
    assert set((first - second).tolist()) <= {0, 1}


def raise_here() -> None:
    raise ArithmeticError("no room\nfor it")


def test_an_error_of_rank_0_ends_all(tmp_path) -> None:
    def run(number: int, folder: Path) -> None:
        over_ranks(Failing(lambda: None), lambda shared: (shared.encode(["a", "b"]), raise_here()))

    (code, _), (other_code, said) = two_ranks(run, tmp_path)
    assert code == 1
    assert other_code == 3
    assert "rank 0 failed: ArithmeticError: no room; rank 1 stops" in said


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_while_encoding_ends_all(tmp_path, failing: int) -> None:
    def run(number: int, folder: Path) -> None:
        how = raise_here if number == failing else lambda: None
        over_ranks(Failing(how), lambda shared: shared.encode(["a", "b", "c"]))

    ends = two_ranks(run, tmp_path)
    assert ends[failing][0] == 1
    assert ends[1 - failing][0] == 3
    assert (
        f"rank {failing} failed: ArithmeticError: no room; rank {1 - failing} stops" in ends[1 - failing][1]
    )


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_all(tmp_path, killed: int) -> None:
    def run(number: int, folder: Path) -> None:
        how = (lambda: os.kill(os.getpid(), signal.SIGKILL)) if number == killed else lambda: None
        over_ranks(Failing(how), lambda shared: shared.encode(["a", "b", "c"]))

    ends = two_ranks(run, tmp_path)
    assert ends[killed][0] == -signal.SIGKILL
    assert ends[1 - killed][0] == 3
    assert f"rank {killed} is gone" in ends[1 - killed][1]
