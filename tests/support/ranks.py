"""What one rank of a world does: real trainings of the real configuration, each compared with one process."""

import errno
import gc
import json
import math
import multiprocessing
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from codiemb.callbacks.before_training import BeforeTraining
from codiemb.config.assemble import assemble
from codiemb.config.schema import TrainConfig
from codiemb.encoder import Encoder, cpu_kernels
from codiemb.encoder.over_ranks import over_ranks
from codiemb.errors import UserError
from codiemb.export import export_sentence_transformer
from codiemb.text_encoder import TextEncoder
from codiemb.training.checkpoint_files import checkpoint_path
from codiemb.training.sharded_encoder import runnable
from codiemb.training.sharding import whole_encoder
from tests.support.counters import Requests
from tests.support.recipe import Expected, full_weights, update_error
from tests.support.tiny import SENTENCES
from tests.support.zero_on_cpu import let_deepspeed_run_on_cpu


def be_rank(rank: int, world: int, port: int) -> None:
    """The environment that torchrun gives a rank, where DeepSpeed runs without a GPU."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",  # or Lightning gives a lone rank a thread per core, which wait for each other
    }
    torch.set_num_threads(1)
    gc.freeze()  # what was imported; DeepSpeed collects in every job, 0.4 s each
    cpu_kernels._MIN_TOKENS = cpu_kernels._MIN_WIDTH = 1  # as in a stream of thousands of tokens
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers: as in a process of a user
    let_deepspeed_run_on_cpu()


def compare(
    rank: int, world: int, port: int, jobs: Sequence[tuple[str, str, TrainConfig]], folder: Path
) -> None:
    """Train every (strategy, case) with all ranks of this world; rank 0 writes the differences."""
    be_rank(rank, world, port)
    differences: dict[str, dict[str, list[float]]] = {}
    for strategy, case, cfg in jobs:
        expected = Expected.load(folder, case)
        recorder = Recorder(expected)
        encoder = train(cfg, rank, recorder)
        found = {
            "losses": recorder.losses,
            "update_errors": recorder.update_errors,
            "norms": recorder.norms,
            "reductions": [each.reduced / expected.num_trained for each in recorder.requests],
            "requests": [dict(each.numbers) for each in recorder.requests],
        }
        if case.startswith("resumed"):
            found["resumed_losses"], again = resume_after_the_first_step(cfg, expected, rank)
            found["gaps"] = gaps(full_weights(again), full_weights(encoder))
        whole = whole_encoder(encoder, cfg.model, on_all_ranks=True)
        after = over_ranks(whole, embed_some)
        if rank == 0:
            alone = embed_some(whole)
            found["embedding_gaps"] = [
                recorder.gap_before,
                *(float(np.abs(alone - shared).max()) for shared in (recorder.shared, after)),
            ]
            differences[f"{strategy} {case}"] = found
            export_sentence_transformer(whole, Path(cfg.run_dir) / "export", query_instruction="")
    if rank == 0:
        (folder / f"world{world}.json").write_text(json.dumps(differences), "utf-8")


def go_on(rank: int, world: int, port: int, cfg: TrainConfig, folder: Path, start: Path) -> None:
    """Train from a checkpoint of step 1, in processes that know nothing of those that wrote it."""
    be_rank(rank, world, port)
    run_dir = Path(cfg.run_dir)
    recorder = Recorder(Expected.load(folder, "resumed"))
    whole = whole_encoder(train(cfg, rank, recorder, start=start), cfg.model)
    if rank == 0:
        export_sentence_transformer(whole, run_dir / "export", query_instruction="")
        (run_dir / "losses.json").write_text(json.dumps(recorder.losses), "utf-8")


def resume_after_the_first_step(
    cfg: TrainConfig, expected: Expected, rank: int
) -> tuple[list[float], Encoder]:
    """The losses and the encoder of a run that goes on from the checkpoint of step 1."""
    start = checkpoint_path(Path(cfg.run_dir) / "checkpoints", 1)
    recorder = Recorder(expected)
    encoder = train(cfg, rank, recorder, start=start)
    return recorder.losses, encoder


def embed_some(encoder: TextEncoder) -> np.ndarray:
    """More texts than ranks, and fewer."""
    return np.concatenate([encoder.encode(SENTENCES), encoder.encode(SENTENCES[:1], instruction="Find")])


def gaps(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[float]:
    """The largest difference of every weight."""
    return [float((ours[name] - theirs[name]).abs().max()) for name in theirs]


def train(cfg: TrainConfig, rank: int, *callbacks: pl.Callback, start: Path | None = None) -> Encoder:
    """As run_train.py does, but that ranks start apart: rank 0's weights count."""
    pl.seed_everything(cfg.seed + rank, workers=True, verbose=False)
    trainer, module, data, encoder, _ = assemble(cfg)
    trainer.callbacks += callbacks
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    return encoder


class Recorder(pl.Callback):
    """Compares every step with one process; at the end all ranks share an encoding."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.losses: list[float] = []  # by micro-batch, mean over ranks
        self.update_errors: list[float] = []  # by optimizer step
        self.norms: list[float] = []  # as logged, by optimizer step
        self.requests: list[Requests] = []  # by optimizer step
        self.shared: np.ndarray | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        before = BeforeTraining(embed_some)
        before.setup(trainer, pl_module, stage)
        if before.result is not None:
            self.gap_before = float(np.abs(embed_some(pl_module.encoder) - before.result).max())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.shared = over_ranks(runnable(pl_module.encoder), embed_some)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.before = full_weights(pl_module)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.requests.append(Requests())
        self.requests[-1].__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.requests[-1].__exit__(None, None, None)
        loss = trainer.strategy.reduce(outputs["loss"], reduce_op="mean")  # over ranks
        self.losses.append(float(loss) * trainer.accumulate_grad_batches)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            after = full_weights(pl_module)
            step = len(self.update_errors)
            self.norms.append(pl_module.means.so_far()["train/grad_norm"])
            self.update_errors.append(update_error(self.before, after, self.expected.weights[step:]))
            self.before = after


def train_in_bf16(rank: int, world: int, port: int, cfgs: Sequence[TrainConfig], folder: Path) -> None:
    """Train in DeepSpeed's bf16; write what there is in fp32."""
    be_rank(rank, world, port)
    found = []
    for cfg in cfgs:
        precision = Precision()
        train(cfg, rank, precision)
        found.append(precision.types)
    (folder / "bf16.json").write_text(json.dumps(found), "utf-8")


class Precision(pl.Callback):
    """The types of a batch's scores, of the weights, and of the buffers (rotary frequencies)."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.types = {
            "scores": str(batch.groups.score_N.dtype),
            "weights": sorted({str(p.dtype) for p in pl_module.parameters()}),
            "buffers": sorted({str(b.dtype) for b in pl_module.buffers()}),
            "num_buffers": len(list(pl_module.buffers())),
        }


def train_and_fall(
    rank: int, world: int, port: int, cfg: TrainConfig, falling: int, how: str, log: Path
) -> None:
    """Train until one rank falls over; what each has to say goes to its own file."""
    output = os.open(f"{log}{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    be_rank(rank, world, port)
    train(cfg, rank, *([Fall(how)] if rank == falling else []))


def fail(
    rank: int, world: int, port: int, jobs: dict[str, tuple[TrainConfig, pl.Callback, Path | None]], log: Path
) -> None:
    """Train what one rank spoils; what each rank says of it goes to its own file."""
    be_rank(rank, world, port)
    said = {}
    for name, (cfg, callback, start) in jobs.items():
        try:
            train(cfg, rank, callback, start=start)
            said[name] = ""
        except UserError as error:
            said[name] = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    Path(f"{log}{rank}").write_text(json.dumps(said), "utf-8")


class SmallDisk(pl.Callback):
    """From its second step on, the system lets one rank write no file above 64 kB."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 1 and trainer.global_rank == self.rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))


class NoRoom(pl.Callback):
    """From its second step on, rank 0 can make no folder, or cannot write what DeepSpeed writes by itself."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 1 and trainer.global_rank == 0:
            self.patches = [patch(f"deepspeed.runtime.{name}", no_room, create=True) for name in self.names]
            for each in self.patches:
                each.start()

    def on_exception(self, trainer, pl_module, exception) -> None:
        if trainer.global_rank == 0:
            for each in self.patches:
                each.stop()


def no_room(*args: object, **kwargs: object) -> NoReturn:
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


class NotFinite(pl.Callback):
    """The gradient of rank 1's first micro-batch is not a number; its loss is."""

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.global_rank == 1 and trainer.fit_loop.epoch_loop.total_batch_idx == 0:
            loss.register_hook(lambda gradient: gradient * math.nan)


class Fall(pl.Callback):
    """The end of a rank, in its second step."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == 1:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ArithmeticError("a rank of its own mind\nwith a second line")
