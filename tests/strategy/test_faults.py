"""A fault of one rank under a sharded strategy: all ranks stop with one clear error and keep what is good."""

import json
from pathlib import Path

import pytest
import ranks
import recipe
from conftest import on_ranks, run
from ranks import NotFinite, SmallDisk

from codiemb.checkpoint import last_good

pytestmark = pytest.mark.slow

SHARDED = ("fsdp", "deepspeed_zero1", "deepspeed_zero3")


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, list[str]]:
    """By strategy and fault: what each of two ranks says."""
    recipe.write_ragged(folder)
    jobs = {}
    for strategy in SHARDED:
        writer = 0 if strategy == "fsdp" else 1  # FSDP2 gathers everything into a file of rank 0
        for fault, callback, case in (
            ("disk", SmallDisk(writer), ("callbacks.checkpoint.every_n_steps=1",)),
            ("nan", NotFinite(), (recipe.ACCUMULATED,)),
        ):
            cfg = recipe.config(folder / f"{fault}-{strategy}", *on_ranks(strategy, 2), *case)
            jobs[f"{fault} {strategy}"] = (cfg, callback, None)
    run(ranks.fail, 2, jobs, folder / "said-")
    parts = [json.loads((folder / f"said-{rank}").read_text("utf-8")) for rank in range(2)]
    return {name: [part[name] for part in parts] for name in jobs}


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_disk_that_refuses_one_rank_stops_all_and_keeps_the_last_good_checkpoint(said, folder, strategy):
    for message in said[f"disk {strategy}"]:
        assert message.startswith("the checkpoint of step 2 was not saved: ")
        assert "the last good checkpoint is" in message
    assert any("File too large" in message for message in said[f"disk {strategy}"])
    assert last_good(folder / f"disk-{strategy}" / "checkpoints").step == 1


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_gradient_that_is_no_number_is_named_with_all_its_micro_batches(said, strategy):
    for message in said[f"nan {strategy}"]:
        norm = "nan" if strategy == "fsdp" else "inf"  # DeepSpeed takes the one for the other
        assert f"step 0: the loss or its gradient (norm {norm}) is not finite" in message
        for rank in range(2):
            for micro_step in range(2):
                assert f"on rank {rank}, micro-step {micro_step}, source " in message
