"""Lightning callbacks that evaluate while a run goes on: the probe of its sources, and dev tasks."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from typing_extensions import override

from codiemb.batch import AnyBatch, Batch
from codiemb.callbacks.probe import Probe, look, make_probe, to_device
from codiemb.data.collator import Collator
from codiemb.encoder import Encoder
from codiemb.encoder.over_ranks import over_ranks
from codiemb.text_encoder import TextEncoder
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.due import is_due
from codiemb.training.metrics_file import keep_lines
from codiemb.training.module import EmbeddingModule
from codiemb.training.sharded_encoder import runnable

log = logging.getLogger(__name__)
PROBE_FILE = "probe.jsonl"
_BATCH = 8  # records embedded at once: small beside any training batch


class AtSteps(pl.Callback):
    """Looks at the encoder before the first optimizer step, every so many, and after the last.

    Never twice at one step: not where the last is also a multiple, and not in a run that goes on from a
    checkpoint of that step.

    Args:
        every_n_steps: optimizer steps between two looks; None looks only at the start and the end.
    """

    def __init__(self, every_n_steps: int | None) -> None:
        self.every_n_steps = every_n_steps
        self.looked_at = -1

    def on_look(self, trainer: pl.Trainer, module: EmbeddingModule) -> None:
        """What a subclass does; called on all ranks."""
        raise NotImplementedError

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"looked_at": self.looked_at}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.looked_at = state_dict["looked_at"]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step; a run that goes on has looked."""
        if trainer.global_step == 0:
            self._look_once(trainer, pl_module)

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        if is_due(trainer.global_step, self.every_n_steps):
            self._look_once(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look_once(trainer, pl_module)

    def _look_once(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, EmbeddingModule)
        if self.looked_at != trainer.global_step:
            self.looked_at = trainer.global_step
            self.on_look(trainer, module)


class ProbeSources(AtSteps):
    """Embeds a few records of every source before and after training: similarities, quality, neighbours.

    The records are the last of each source's first epoch, so a run of less than one epoch has not trained
    on them. Numbers go to the loggers as `probe/<source>/<name>`, neighbours to W&B as tables, all of it
    to `probe.jsonl` in the run folder, one line per source and look. All ranks look (a sharded model needs
    them), rank 0 writes.

    Args:
        num_records: of each source.
        every_n_steps: optimizer steps between two looks; None looks only before and after training.
        num_queries: queries of each source whose neighbours are shown.
        num_neighbours: of each query.
    """

    def __init__(
        self,
        num_records: int = 96,
        every_n_steps: int | None = None,
        num_queries: int = 3,
        num_neighbours: int = 3,
    ) -> None:
        super().__init__(every_n_steps)
        self.num_records = num_records
        self.num_queries = num_queries
        self.num_neighbours = num_neighbours
        self._probes: list[Probe] = []

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the records; drop the looks that a run going on takes again (all, in a fresh run)."""
        assert isinstance(pl_module, EmbeddingModule)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._probes = _probes(data, pl_module.encoder, self.num_records)
        if trainer.is_global_zero:
            keep_lines(Path(trainer.default_root_dir) / PROBE_FILE, before=self.looked_at + 1)
        super().on_train_start(trainer, pl_module)

    @override
    def on_look(self, trainer: pl.Trainer, module: EmbeddingModule) -> None:
        for probe in self._probes:
            batches = [to_device(batch, module.device) for batch in probe.batches]
            with trainer.precision_plugin.forward_context():
                seen = look(
                    module.encoder, probe, batches, num_queries=self.num_queries, k=self.num_neighbours
                )
            if trainer.is_global_zero:
                _write(trainer, seen)


class DevMetrics(AtSteps):
    """Evaluates on dev tasks every so many optimizer steps, and at both ends: `val/<dataset>/<metric>`.

    All ranks encode, also with weights in shards; rank 0 scores.

    Args:
        evaluate: scores an encoder: {`<dataset>/<metric>`: value}. Must leave the random state alone.
        every_n_steps: as in AtSteps.
    """

    def __init__(self, evaluate: Callable[[TextEncoder], Mapping[str, float]], every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        self.evaluate = evaluate

    @override
    def on_look(self, trainer: pl.Trainer, module: EmbeddingModule) -> None:
        scores = over_ranks(runnable(module.encoder), self.evaluate)
        if scores is not None:
            log_now(trainer, {f"val/{name}": value for name, value in scores.items()})


def _probes(data: EmbeddingDataModule, encoder: Encoder, num_records: int) -> list[Probe]:
    """One probe of each source whose batches are embedded: raw text for language modelling has none."""
    assert data.plan is not None
    collator = Collator(encoder.tokenizer, data.tasks, data.seed)
    probes = []
    for number, source in enumerate(data.sources):
        examples = data.plan.last_examples(number, num_records).tolist()
        batches: list[Batch] = []
        for start in range(0, len(examples), _BATCH):
            indices = examples[start : start + _BATCH]
            records = [source[index] for index in indices]
            batch = collator(records, source=source.name, epoch=0, indices=indices)
            if isinstance(batch, Batch):
                batches.append(batch)
        if batches:
            probes.append(make_probe(encoder, batches))
    return probes


def _write(trainer: pl.Trainer, seen: dict[str, Any]) -> None:
    """One line in the run folder, the numbers to every logger, the neighbours to W&B."""
    path = Path(trainer.default_root_dir) / PROBE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": trainer.global_step, **seen}, ensure_ascii=False) + "\n")
    log_now(trainer, {f"probe/{seen['source']}/{name}": value for name, value in seen["metrics"].items()})
    columns = ["step", "query", "rank", "document", "similarity", "is_positive"]
    rows = [
        [trainer.global_step, entry["query"], rank, found["text"], found["similarity"], found["is_positive"]]
        for entry in seen["neighbours"]
        for rank, found in enumerate(entry["documents"], 1)
    ]
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(f"probe/{seen['source']}/neighbours", columns=columns, data=rows)


def log_now(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """To every logger, now; `self.log` is not allowed at the end of training."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    for logger in trainer.loggers:
        logger.log_metrics(finite, step=trainer.global_step)
