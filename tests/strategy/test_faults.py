"""A rank that dies or fails: the others end within the timeout and name it, and what is good stays."""

import json
from pathlib import Path

import pytest

from codiemb.config.typed import source_files
from codiemb.data.conversion import convert
from codiemb.training.checkpoint_files import last_good
from tests.support import ranks, recipe
from tests.support.ranks import NoRoom, NotFinite, SmallDisk
from tests.support.worlds import on_ranks, run, start

TIMEOUT = 3
SHARDED = ("fsdp", "deepspeed_zero1", "deepspeed_zero3")
# What DeepSpeed's rank 0 writes, with a barrier behind each at which the others wait; by ZeRO 3, whose way
# through DeepSpeed is that of ZeRO 1 and more.
PAST_THE_ENGINE = {
    "folder": NoRoom("checkpoint_engine.checkpoint_engine.CheckpointEngine.makedirs"),
    "script": NoRoom("engine.copyfile"),
    "latest": NoRoom("engine.open"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("falling", "how"), [(1, "killed"), (0, "failed")])
def test_the_others_stop_and_name_the_rank(folder: Path, falling: int, how: str):
    log = folder / f"fall-{falling}-{how}-"
    cfg = recipe.config(
        folder / f"fall-{falling}",
        "strategy=ddp",
        "trainer.devices=3",
        "tasks.ir.global_batch_size=6",
        "tasks.sts.global_batch_size=6",
        "max_steps=50",
        f"callbacks.stop_together.timeout={TIMEOUT}",
        "data.num_workers=1",  # it inherits its rank's sockets and outlives it
    )
    recipe.write_ragged(folder)
    convert(source_files(cfg.data), Path(cfg.data.cache), skip_bad=False)  # or every rank would
    world = start(ranks.train_and_fall, 3, cfg, falling, how, log)
    for process in world.processes:
        process.join(120)
    assert [process.exitcode != 0 for process in world.processes] == [True] * 3
    said = [Path(f"{log}{rank}").read_text("utf-8") for rank in range(3)]
    process = world.processes[falling].pid
    for rank in {0, 1, 2} - {falling}:
        end = "died" if how == "killed" else "failed: ArithmeticError: a rank of its own mind"
        assert f"rank {falling} (host" in said[rank]
        assert f"process {process}) {end}" in said[rank]
    assert not any(f"rank {rank} (host" in said[falling] for rank in {0, 1, 2} - {falling})


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, list[str]]:
    """By strategy and fault: what each of two ranks says."""
    recipe.write_ragged(folder)
    jobs = {}
    for strategy in SHARDED:
        writer = 0 if strategy == "fsdp" else 1  # FSDP2 gathers everything into a file of rank 0
        faults = {"disk": SmallDisk(writer), **(PAST_THE_ENGINE if strategy == "deepspeed_zero3" else {})}
        for fault, callback in {**faults, "nan": NotFinite()}.items():
            case = (recipe.ACCUMULATED if fault == "nan" else "callbacks.checkpoint.every_n_steps=1",)
            # a rank that hears of the other's failure first would be ended after the timeout, in a later job
            overrides = (*on_ranks(strategy, 2), *case, "callbacks.stop_together=null")
            cfg = recipe.config(folder / f"{fault}-{strategy}", *overrides)
            jobs[f"{fault} {strategy}"] = (cfg, callback, None)
    run(ranks.fail, 2, jobs, folder / "said-")
    parts = [json.loads((folder / f"said-{rank}").read_text("utf-8")) for rank in range(2)]
    return {name: [part[name] for part in parts] for name in jobs}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "fault"),
    [(s, "disk") for s in SHARDED] + [("deepspeed_zero3", fault) for fault in PAST_THE_ENGINE],
)
def test_a_disk_that_refuses_one_rank_stops_all_and_keeps_the_last_good_checkpoint(
    said, folder, strategy, fault
):
    for message in said[f"{fault} {strategy}"]:
        assert message.startswith("the checkpoint of step 2 was not saved: ")
        assert "the last good checkpoint is" in message
    assert any("File too large" in message for message in said[f"{fault} {strategy}"])
    assert last_good(folder / f"{fault}-{strategy}" / "checkpoints").step == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", SHARDED)
def test_a_gradient_that_is_no_number_is_named_with_all_its_micro_batches(said, strategy):
    for message in said[f"nan {strategy}"]:
        norm = "nan" if strategy == "fsdp" else "inf"  # DeepSpeed takes the one for the other
        assert f"step 0: the loss or its gradient (norm {norm}) is not finite" in message
        for rank in range(2):
            for micro_step in range(2):
                assert f"on rank {rank}, micro-step {micro_step}, source " in message
