"""Worlds of 1, 2 and 4 ranks: which jobs each runs, and how one is started."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessContext

from codiemb.config.schema import TrainConfig
from tests.support import recipe

STRATEGIES = ("ddp", "fsdp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3")
UNLIKE = ("ddp", "fsdp", "deepspeed_zero3")  # ZeRO 1 and 2 differ from 3 in what the plain cases show
JOBS = {
    1: [
        ("auto", "plain"),
        *((s, "adamw") for s in ("fsdp", "deepspeed_zero1", "deepspeed_zero3")),
    ],
    2: [
        *((s, "plain") for s in STRATEGIES),
        *((s, "resumed") for s in STRATEGIES if s != "deepspeed_zero2"),  # its files are those of ZeRO 1
        *((s, case) for s in UNLIKE for case in ("chunked", "lora", "lm")),
        *((s, case) for s in ("ddp", "fsdp") for case in ("mixed", "lm_and_ir")),
        ("fsdp", "resumed_sgd"),
    ],
    4: [(s, "chunked") for s in UNLIKE if s != "ddp"],  # DDP shards nothing: 4 ranks are as 2
}
# ZeRO 3 leaves tensors below 100,000 numbers whole: here, all but two of a layer
PARTITION_ALL = "+strategy.config.zero_optimization.stage3_param_persistence_threshold=0"
# what ranks import anyway: paid once instead of seven times
PRELOADED = [
    "deepspeed",
    "torch._inductor.compile_fx",
    "codiemb.export",
    "codiemb.config.assemble",
    "codiemb.callbacks",
]
Differences = dict[tuple[int, str, str], dict[str, Any]]


def start(ranks: Callable[..., None], world: int, *arguments: object) -> ProcessContext:
    """Start a world of gloo ranks from a process that has imported everything, but not used it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    context = mp.start_processes(
        ranks, args=(world, port, *arguments), nprocs=world, join=False, start_method="forkserver"
    )
    assert context is not None
    return context


def run(ranks: Callable[..., None], world: int, *arguments: object) -> None:
    """Start a world and wait for its end."""
    context = start(ranks, world, *arguments)
    while not context.join():
        pass


def jobs_of(folder: Path, world: int) -> Sequence[tuple[str, str, TrainConfig]]:
    jobs = []
    for strategy, case in JOBS[world]:
        overrides = [*on_ranks(strategy, world), *recipe.CASES[case]]
        if (strategy, case) == ("ddp", "lm_and_ir"):
            overrides.append("+strategy.find_unused_parameters=true")
        if case == "plain" and world > 1 and strategy in UNLIKE:
            overrides.append(recipe.PROBED)
        jobs.append((strategy, case, recipe.config(folder / f"{world}-{strategy}-{case}", *overrides)))
    return jobs


def on_ranks(strategy: str, world: int) -> list[str]:
    """The overrides that spread a run over ranks."""
    overrides = [f"strategy={strategy}", f"trainer.devices={world}"]
    if strategy != "auto":  # ranks that wait for each other for ever must fail, not hang
        overrides.append("strategy.timeout=120")
    if strategy == "deepspeed_zero3":
        overrides.append(PARTITION_ALL)
    return overrides
