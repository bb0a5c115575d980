"""The contenders of train_speed.py, each in a process of its own and paced by the parent.

    python train_speed_sides.py FOLDER CONTENDER_AS_JSON

Protocol, one JSON object a line: this process reports when it is ready, then for every number of steps read
from standard input it trains that many steps and reports their time. Closing the input ends it.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from codiemb.callbacks.cpu import keep_freed_memory
from experiments.benchmarks.machine import memory_mib, synchronise
from experiments.benchmarks.workload import SCALE, Job, read_folder

CHUNK_TEXTS = 4


@dataclass(frozen=True)
class Contender:
    """A trainer and the ways in which it may differ from its own plain run."""

    trainer: str  # "sentence-transformers" or "codiemb"
    bf16: bool = False  # autocast
    chunked: bool = False  # gradient caching: chunks of 4 texts a column there, of 4 texts' tokens here
    keeps_memory: bool = False  # there; here it always does, as by default

    @property
    def name(self) -> str:
        """The name in the table."""
        ways = ["bf16"] * self.bf16 + ["chunked"] * self.chunked + ["memory kept"] * self.keeps_memory
        return ", ".join([self.trainer, *ways])

    @property
    def plain(self) -> "Contender":
        """The same trainer in fp32 on the whole batch."""
        return Contender(self.trainer)


class Pacer:
    """Stops a training loop between steps, and times the steps in between, batch preparation included."""

    def __init__(self, channel: TextIO, device: str) -> None:
        self.channel = channel
        self.device = device
        self.losses: list[Tensor] = []
        self.left = 0
        self.started = self.cpu_started = 0.0
        self.memory_before = memory_mib("VmRSS") if device == "cpu" else 0.0

    def watch(self, loss: nn.Module) -> None:
        """Keep every loss of this module; reading the numbers waits until the clock is stopped."""
        loss.register_forward_hook(lambda _module, _inputs, output: self._keep(output))

    def _keep(self, output: Any) -> None:  # noqa: ANN401  a tensor, or our LossOutput
        self.losses.append(getattr(output, "value", output).detach())

    def ready(self) -> None:
        """Call right before training; the watched loss has run once, without dropout."""
        self._report(start_loss=self.losses.pop().item(), memory_before_mib=self.memory_before)
        self._wait()

    def step_done(self) -> None:
        """Call after each optimizer step."""
        self.left -= 1
        if self.left > 0:
            return
        synchronise(self.device)
        seconds = time.perf_counter() - self.started
        cpu_seconds = time.process_time() - self.cpu_started
        losses = [loss.item() for loss in self.losses]
        self.losses.clear()
        on_card = self.device == "cuda"
        peak = torch.cuda.max_memory_allocated() / 2**20 if on_card else memory_mib("VmHWM")
        self._report(seconds=seconds, cpu_seconds=cpu_seconds, losses=losses, peak_memory_mib=peak)
        self._wait()

    def _report(self, **fields: Any) -> None:  # noqa: ANN401  anything JSON can hold
        print(json.dumps(fields), file=self.channel, flush=True)

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # the parent has seen enough; no trainer needs to finish
        self.left = int(line)
        self.started, self.cpu_started = time.perf_counter(), time.process_time()


def run_peer(contender: Contender, job: Job, rows: list[list[str]], folder: Path, pacer: Pacer) -> None:
    """sentence-transformers: its trainer with MultipleNegativesRankingLoss, batches in the given order."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    class PaceCallback(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            pacer.ready()

        def on_step_end(self, *_: object, **__: object) -> None:
            pacer.step_done()

    def in_order(dataset: Dataset, **kwargs: Any) -> DefaultBatchSampler:  # noqa: ANN401
        return DefaultBatchSampler(SequentialSampler(dataset), **kwargs)

    transformer = Transformer(str(folder / "model"), max_seq_length=job.max_tokens)
    model = SentenceTransformer(modules=[transformer, Pooling(job.hidden_size, "mean")], device=job.device)
    loss = MultipleNegativesRankingLoss(model, scale=SCALE)
    if contender.chunked:
        loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, mini_batch_size=CHUNK_TEXTS)
    columns = ["query", "positive", "negative"][: job.texts_per_row]
    trainer = SentenceTransformerTrainer(
        model=model,
        train_dataset=Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows]),
        loss=loss,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder / "peer"),
            max_steps=job.steps,
            per_device_train_batch_size=job.pairs,
            learning_rate=job.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            batch_sampler=in_order,
            bf16=contender.bf16,
            use_cpu=job.device == "cpu",
            seed=job.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        callbacks=[PaceCallback()],
    )
    first = next(iter(trainer.get_train_dataloader()))
    features, labels = trainer.collect_features(first)
    pacer.watch(loss)
    model.eval()
    with torch.no_grad():
        loss(features, labels)
    model.train()
    trainer.train()


def run_ours(contender: Contender, job: Job, rows: list[list[str]], folder: Path, pacer: Pacer) -> None:
    """This repository: Lightning, EmbeddingModule, InfoNCE on packed batches from the collator."""
    import pytorch_lightning as pl
    from lightning_fabric.utilities import move_data_to_device
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import DataLoader

    from codiemb.batch import Batch
    from codiemb.callbacks import KeepFreedMemory
    from codiemb.data import Collator, TaskSpec
    from codiemb.data.records import Record, Text
    from codiemb.encoder.cpu_kernels import use_cpu_kernels
    from codiemb.encoder.loading import load_encoder
    from codiemb.encoder.spec import ModelSpec, PromptSpec
    from codiemb.losses import InfoNCE
    from codiemb.training.module import EmbeddingModule

    class PaceCallback(pl.Callback):
        def on_train_start(self, *_: object) -> None:
            pacer.ready()

        def on_train_batch_end(self, *_: object, **__: object) -> None:
            pacer.step_done()

    records = [
        Record("ir", Text("", query), [Text("", positive)], [Text("", text) for text in negatives], [], [])
        for query, positive, *negatives in rows
    ]
    encoder = load_encoder(ModelSpec(path=str(folder / "model"), prompt=PromptSpec(query="")))
    use_cpu_kernels(encoder.backbone)
    spec = TaskSpec(job.pairs, max_query_tokens=job.max_tokens, max_document_tokens=job.max_tokens)
    collator = Collator(encoder.tokenizer, {"ir": spec}, seed=job.seed)
    if contender.chunked:
        encoder.max_tokens_per_chunk = CHUNK_TEXTS * job.max_tokens

    def collate(batch: list[Record]) -> Batch:
        return collator(batch, source="benchmark", epoch=0, indices=range(len(batch)))

    loss = InfoNCE(temperature=1 / SCALE)
    optimizer = partial(AdamW, lr=job.learning_rate, weight_decay=0.0, fused=True)
    module = EmbeddingModule(
        encoder, {"ir": loss}, optimizer, lambda optimizer, _steps: LambdaLR(optimizer, lambda _step: 1.0)
    )
    pacer.watch(loss)
    encoder.to(job.device).eval()
    with torch.no_grad():
        loss(encoder.embed(move_data_to_device(collate(records[: job.pairs]), torch.device(job.device))))
    encoder.train()
    trainer = pl.Trainer(
        accelerator=job.device,
        precision="bf16-mixed" if contender.bf16 else "32-true",
        max_steps=job.steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PaceCallback(), KeepFreedMemory()],
    )
    pl.seed_everything(job.seed)
    trainer.fit(module, DataLoader(records, batch_size=job.pairs, collate_fn=collate))


def main() -> None:
    """Keep standard output for the protocol, send what libraries print to standard error, and train."""
    folder, contender = Path(sys.argv[1]), Contender(**json.loads(sys.argv[2]))
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job, rows = read_folder(folder)
    if contender.keeps_memory:
        keep_freed_memory()
    run = {"codiemb": run_ours, "sentence-transformers": run_peer}[contender.trainer]
    run(contender, job, rows, folder, Pacer(channel, job.device))


if __name__ == "__main__":
    main()
