"""The Lightning module: encode a single-task batch, route it to its task's loss, log every term."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from codiemb.batch import AnyBatch, EmbeddedBatch, LanguageBatch, TokenStates
from codiemb.data.permutation import Stream, mix
from codiemb.encoder.encoder import Encoder
from codiemb.encoder.head import LanguageHead
from codiemb.losses import LossOutput
from codiemb.training.datamodule import EmbeddingDataModule
from codiemb.training.due import is_logged
from codiemb.training.means import Means
from codiemb.training.sharding import shard

# from the parameters, or from groups of them with settings of their own
OptimizerFactory = Callable[[list[nn.Parameter] | list[dict[str, Any]]], Optimizer]
ScheduleFactory = Callable[[Optimizer, int], LRScheduler]  # (optimizer, optimizer steps in all)


class EmbeddingModule(pl.LightningModule):
    """Wraps an encoder with one loss per task; the batch's task picks the loss.

    A line of the loggers has, as `train/loss/<task>` and `train/loss/<task>/<term>`, means over the
    micro-batches of that task, on all ranks, since the line before it; each micro-batch counts once, whatever
    its size. So does a term that a micro-batch has not (`Graded`), over those that have it.

    Args:
        encoder: what is trained.
        losses: by task name; each returns a LossOutput for an EmbeddedBatch, or TokenStates (task lm).
        optimizer: builds the optimizer from the trainable parameters.
        schedule: builds the learning-rate schedule, stepped after every optimizer step.
        head: of the language-model task; None in a run without it.
        seed: of dropout, together with the step and the rank.
        head_learning_rate: a new head has everything to learn, an encoder may have something to lose; None:
            that of the optimizer.
    """

    def __init__(
        self,
        encoder: Encoder,
        losses: Mapping[str, nn.Module],
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        head: LanguageHead | None = None,
        seed: int = 0,
        head_learning_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.losses = nn.ModuleDict(losses)
        self._optimizer = optimizer
        self._schedule = schedule
        self._seed = seed
        self._head_learning_rate = head_learning_rate
        self.means = Means()  # what callbacks add here stands in the lines, too

    @override
    def configure_model(self) -> None:
        """Shard the model over the mesh that FSDP2 has laid out; other strategies lay out none."""
        if self.device_mesh is not None and not isinstance(self.encoder, FSDPModule):
            shard(self.encoder, self.head, self.device_mesh["data_parallel"])

    @override
    def setup(self, stage: str) -> None:
        """Give a new head the frequencies of the tokens to predict; a checkpoint is loaded after this."""
        data = getattr(self.trainer, "datamodule", None)
        if self.head is not None and self.head.is_untrained and isinstance(data, EmbeddingDataModule):
            assert self.head.bias is not None
            self.head.set_token_frequencies(data.target_counts(len(self.head.bias)))

    @override
    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Dropout is a function of (seed, micro-step, rank), so that a resumed run needs no random state."""
        torch.manual_seed(mix(self._seed, Stream.DROPOUT, batch_idx, self.global_rank))
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        if first and is_logged(self.trainer, self.trainer.global_step):
            self._forget_logged_values()

    def _forget_logged_values(self) -> None:
        """A line of metrics holds the steps since the line before it; Lightning would repeat older values."""
        for metric in (self.trainer._results or {}).values():
            if not metric.meta.on_epoch:
                metric.reset()

    @override
    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch; the gather over ranks happens inside the loss."""
        output: LossOutput = self.losses[batch.task](self.encoded(batch))
        name = f"train/loss/{batch.task}"
        self.means.add(name, output.value)
        for term, value in output.logs.items():
            self.means.add(f"{name}/{term}", value)
        return output.value

    @override
    def on_train_batch_end(self, outputs: object, batch: AnyBatch, batch_idx: int) -> None:
        """Called after all callbacks, and before Lightning writes the line: hand the means to it."""
        steps, part = divmod(batch_idx + 1, self.trainer.accumulate_grad_batches)
        if part == 0 and (is_logged(self.trainer, steps) or self.trainer.should_stop):
            for name, mean in self.means.take(self.device).items():
                self.log(name, mean, prog_bar=name.removeprefix("train/loss/") in self.losses, batch_size=1)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """On all ranks; the means of the line to come are part of it."""
        checkpoint["means"] = self.means.state_dict(self.device)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "means" in checkpoint:
            self.means.load_state_dict(checkpoint["means"])

    def encoded(self, batch: AnyBatch) -> EmbeddedBatch | TokenStates:
        """What the batch's loss sees: embeddings of texts, or states of tokens."""
        if isinstance(batch, LanguageBatch):
            assert self.head is not None, "a language-model batch needs a head"
            return self.head(self.encoder, batch)
        return self.encoder.embed(batch)

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and the schedule of the config, over the trainable parameters."""
        optimizer = self._optimizer(self._parameters_by_rate())
        # a fused optimizer offers to undo a GradScaler's scaling itself; Lightning then refuses to clip in
        # mixed precision, bf16 included, which has no scaler. Without the offer Lightning undoes it first
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        # stepped by optimizer steps: with accumulation Lightning calls it once per N micro-batches
        schedule = self._schedule(optimizer, self._num_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameters_by_rate(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """The trainable parameters, the head's as a group of its own where it has a rate of its own."""
        if self.head is None or self._head_learning_rate is None:
            return [p for p in self.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in part.parameters() if p.requires_grad]}
            for part in (self.encoder, self.head)
        ]
        groups[1]["lr"] = self._head_learning_rate
        return groups

    def _num_steps(self) -> int:
        """Optimizer steps of the run, from the plan: Lightning counts by starting the loader, at step 0."""
        data = getattr(self.trainer, "datamodule", None)
        planned = data.num_steps if isinstance(data, EmbeddingDataModule) else None
        return planned or int(self.trainer.estimated_stepping_batches)
