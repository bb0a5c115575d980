"""A training run that takes a second: two tasks, dropout on, everything but Hydra real."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from codiemb.callbacks.checkpoints import Checkpoints
from codiemb.callbacks.refresh import RefreshNegatives
from codiemb.data import Alternate, Proportional, SourceFile, TaskSpec
from codiemb.encoder import load_encoder
from codiemb.losses import CoSENT, InfoNCE
from codiemb.mining.spec import RefreshSpec
from codiemb.training.checkpoint_plugin import CheckpointFile
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.metrics_file import JsonlLogger
from codiemb.training.module import EmbeddingModule
from codiemb.training.schedule import learning_rate_schedule
from tests.support import tiny
from tests.support.paths import GOLDEN

# of Lightning 2.6 on torch >= 2.10, and about a loader that keeps up without workers
KNOWN_WARNINGS = (r".*isinstance\(treespec, LeafSpec\)", ".*does not have many workers")
DDP: dict[str, Any] = {"strategy": "ddp", "devices": 2}


class TinyRun:
    """One process's run in `folder`: `fit()` starts it, `fit(checkpoint)` continues it."""

    def __init__(
        self,
        folder: Path,
        *callbacks: pl.Callback,
        steps: int = 12,
        num_workers: int = 0,
        batch: int = 8,
        every_n_steps: int = 4,
        log_every_n_steps: int = 1,
        dropout: float = 0.1,
        refresh: RefreshSpec | None = None,
        **trainer: Any,
    ) -> None:
        spec = tiny.tiny_spec("bert", GOLDEN / "tokenizer", max_tokens=32)
        spec.architecture |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        torch.manual_seed(0)
        encoder = load_encoder(spec)
        torch.manual_seed(
            int.from_bytes(folder.name.encode()) % 2**32
        )  # no run may depend on the state it meets
        self.data = EmbeddingDataModule(
            [SourceFile(task, _records(task, folder, refresh)) for task in ("ir", "sts")],
            {task: TaskSpec(batch, 32, 32, 1, 1) for task in ("ir", "sts")},
            Proportional() if refresh is None else Alternate(),  # every search has steps that see it
            encoder.tokenizer,
            seed=3,
            cache=folder.parent / "cache",
            num_workers=num_workers,
            max_steps=steps,
            refresh=refresh,
        )
        mining = () if refresh is None else (RefreshNegatives(refresh),)
        self.module = EmbeddingModule(
            encoder,
            {"ir": InfoNCE(0.1), "sts": CoSENT(0.1)},
            optimizer=partial(torch.optim.AdamW, lr=1e-3),
            schedule=learning_rate_schedule,
            seed=5,
        )
        self.trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=1.0,
            logger=[JsonlLogger(str(folder))],
            log_every_n_steps=log_every_n_steps,
            callbacks=[*mining, Checkpoints(every_n_steps), *callbacks],
            plugins=[CheckpointFile()],
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            use_distributed_sampler=False,
            **trainer,
        )

    def fit(self, checkpoint: Path | None = None) -> None:
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)


def _records(task: str, folder: Path, refresh: RefreshSpec | None) -> Path:
    """All golden records; 40 where their texts are embedded at every search."""
    file = GOLDEN / f"{task}.jsonl"
    if refresh is None:
        return file
    few = folder.parent / file.name
    few.parent.mkdir(parents=True, exist_ok=True)
    if not few.is_file():
        few.write_text("\n".join(file.read_text("utf-8").splitlines()[:40]) + "\n", "utf-8")
    return few


def two_ranks(job: Callable[[], None], folder: Path) -> list[str]:
    """Run `job` as torchrun would start two ranks of it, forked to save the imports; what each one raised."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_run_rank, args=(job, rank, port, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=60)
        assert process.exitcode is not None, "a rank hangs"
    return [(folder / f"raised-{rank}").read_text("utf-8") for rank in range(2)]


def _run_rank(job: Callable[[], None], rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_RUN_ID"] = "none"
    raised = ""
    try:
        job()
    except BaseException as error:
        raised = f"{type(error).__name__}: {getattr(error, 'message', error)}"
    (folder / f"raised-{rank}").write_text(raised, "utf-8")
    os._exit(0)  # not through pytest's own exit handlers
