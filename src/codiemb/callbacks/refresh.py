"""Mines hard negatives anew with the current weights, every so many optimizer steps."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from typing_extensions import override

from codiemb.callbacks.looks import AtSteps, log_now
from codiemb.data.mined import NONE
from codiemb.encoder import Encoder
from codiemb.encoder.over_ranks import over_ranks
from codiemb.mining.miner import Miner, Table
from codiemb.mining.spec import RefreshSpec
from codiemb.text_encoder import TextEncoder
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.module import EmbeddingModule
from codiemb.training.sharded_encoder import runnable

log = logging.getLogger(__name__)
_MANY = 0.5  # of the records without a negative, which is worth a warning


class RefreshNegatives(AtSteps):
    """Gives the batches from step N, 2N, ... on the negatives that the weights of that step find.

    They are a function of the weights (with `conan` also of the negatives before), so a step that is done
    again gets the same. They are part of the checkpoint, 12 bytes each: a run that goes on needs no search.
    All ranks encode, also with weights in shards; rank 0 searches. Texts are cut where training cuts them.

    Logs, at each search: `perf/refresh_seconds`, `perf/refresh_share` of the time since training began, and
    for each source `refresh/<source>/score` (mean of the negatives' scores, each of the search that it came
    with), `.../new` (their share that came with this one) and `.../without` (share of records with none).

    Args:
        spec: how often, by which rule, within which limits.
    """

    def __init__(self, spec: RefreshSpec) -> None:
        super().__init__(spec.every_n_steps)
        self.spec = spec
        self.count = 0  # searches so far
        self.seconds = 0.0  # they took
        self.share = 0.0  # of the time of training
        self._trained = 0.0  # seconds before the present start
        self._started = time.monotonic()
        self._tables: dict[int, Table] = {}  # by source
        self._miner: Miner | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """The negatives, and what they have cost so far."""
        tables = {
            number: [torch.from_numpy(part) for part in table] for number, table in self._tables.items()
        }
        spent = {"count": self.count, "seconds": self.seconds, "trained": self._seconds_of_training()}
        return super().state_dict() | spent | {"tables": tables}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.count, self.seconds = state_dict["count"], state_dict["seconds"]
        self._trained = state_dict["trained"]
        self._tables = {
            number: (codes.numpy(), first.numpy()) for number, (codes, first) in state_dict["tables"].items()
        }

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand out what the checkpoint has; the loader's workers may wait for it already."""
        self._started = time.monotonic()
        self._hand_out(trainer)
        super().on_train_start(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is mined for nobody."""
        self.share = self.seconds / max(self._seconds_of_training(), 1e-9)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Let workers go that wait for a search which never comes."""
        mined = _data(trainer).mined
        if mined is not None:
            mined.close()

    @override
    def on_look(self, trainer: pl.Trainer, module: EmbeddingModule) -> None:
        step, data = trainer.global_step, _data(trainer)
        if step >= data.num_steps or (step == 0 and self.spec.rule != "conan"):
            return  # no batch comes after it; the files' negatives come first
        started = time.monotonic()
        if self._miner is None and trainer.is_global_zero:
            self._miner = Miner(data.refreshed_sources(), self.spec, str(module.device))
        before = self._tables
        with trainer.precision_plugin.forward_context():
            found: Any = {
                number: self._mined(number, data, module.encoder) for number in data.refreshed_sources()
            }
        self._tables = trainer.strategy.broadcast(found, 0)
        self._hand_out(trainer)
        seconds = time.monotonic() - started
        self.count, self.seconds = self.count + 1, self.seconds + seconds
        self.share = self.seconds / max(self._seconds_of_training(), 1e-9)
        self._report(trainer, before, seconds)

    def _mined(self, number: int, data: EmbeddingDataModule, encoder: Encoder) -> Table | None:
        """On rank 0 the negatives of a source; None on the others, which help to encode."""
        spec, runs = data.tasks[data.sources[number].task], runnable(encoder)
        with _cut_at(spec.max_query_tokens, encoder):
            query_RD = over_ranks(runs, lambda shared: self._on_rank_0().queries(number, shared))

        def search(shared: TextEncoder) -> Table:
            assert query_RD is not None
            return self._on_rank_0().search(number, query_RD, self._tables.get(number), shared)

        with _cut_at(spec.max_document_tokens, encoder):
            return over_ranks(runs, search)

    def _on_rank_0(self) -> Miner:
        assert self._miner is not None
        return self._miner

    def _hand_out(self, trainer: pl.Trainer) -> None:
        mined = _data(trainer).mined
        period = trainer.global_step // (self.spec.every_n_steps or 1)
        if mined is not None and period:
            mined.publish(period, {number: codes for number, (codes, _) in self._tables.items()})

    def _report(self, trainer: pl.Trainer, before: dict[int, Table], seconds: float) -> None:
        metrics = {"perf/refresh_seconds": seconds, "perf/refresh_share": self.share}
        for number, (codes_RK, first_RK) in self._tables.items():
            name = f"refresh/{_data(trainer).sources[number].name}"
            has_RK = codes_RK != NONE
            metrics[f"{name}/without"] = 1 - float(has_RK.any(axis=1).mean())
            if has_RK.any():
                metrics[f"{name}/score"] = float(first_RK[has_RK].astype(np.float64).mean())
                old = before.get(number, (np.full_like(codes_RK, NONE), None))[0]
                is_old_RK = (codes_RK[:, :, None] == old[:, None, :]).any(axis=2)
                metrics[f"{name}/new"] = 1 - float(is_old_RK[has_RK].mean())
        if trainer.is_global_zero:
            log.info(
                "negatives mined anew after step %d in %.0f s; searches so far took %.0f %% of the time",
                *(trainer.global_step, seconds, 100 * self.share),
            )
            log_now(trainer, metrics)
            self._warn_of_none(metrics)

    def _warn_of_none(self, metrics: dict[str, float]) -> None:
        """Nothing is filled up: limits that no text keeps to leave records without negatives."""
        for name, value in metrics.items():
            if name.endswith("/without") and value > _MANY:
                log.warning(
                    "%s: %.0f %% of the records have no hard negative: few texts of ranks %d to %d score at "
                    "most refresh.percent=%s of the lowest positive",
                    *(name.removesuffix("/without"), 100 * value),
                    *(self.spec.min_rank, self.spec.max_rank, self.spec.percent),
                )

    def _seconds_of_training(self) -> float:
        return self._trained + time.monotonic() - self._started


def _data(trainer: pl.Trainer) -> EmbeddingDataModule:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, EmbeddingDataModule)
    return data


@contextmanager
def _cut_at(max_tokens: int, encoder: Encoder) -> Iterator[None]:
    """Encode texts as training sees them, not as evaluation does."""
    before, encoder.max_tokens = encoder.max_tokens, max_tokens
    try:
        yield
    finally:
        encoder.max_tokens = before
