"""Three worlds of 1, 2 and 4 ranks, each started once; everything in them runs at the same time."""

import json
import multiprocessing
import os
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import pytest
import torch

from tests.support import ranks, recipe
from tests.support.worlds import JOBS, PRELOADED, Differences, jobs_of, start


@pytest.fixture(autouse=True, scope="session")
def server() -> None:
    """Begin to import what the ranks need."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # or DeepSpeed would look for one, and warn
    multiprocessing.set_forkserver_preload(PRELOADED)
    ensure_running()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strategy")


@pytest.fixture(scope="session")
def expected(folder: Path) -> dict[str, recipe.Expected]:
    """By case: what one process gets, in a plain loop."""
    recipe.write_ragged(folder)
    results = {}
    for case, overrides in recipe.CASES.items():
        results[case] = recipe.one_process(recipe.config(folder / f"expected-{case}", *overrides))
        torch.save(tuple(results[case]), folder / f"{case}.pt")
    return results


@pytest.fixture(scope="session")
def differences(folder: Path, expected: dict[str, recipe.Expected]) -> Differences:
    """By number of ranks, strategy and case: what the real trainer does otherwise."""
    worlds = [start(ranks.compare, world, jobs_of(folder, world), folder) for world in JOBS]
    for world in worlds:
        while not world.join():
            pass
    found: Differences = {}
    for world in JOBS:
        for job, difference in json.loads((folder / f"world{world}.json").read_text("utf-8")).items():
            found[world, *job.split()] = difference
    return found
