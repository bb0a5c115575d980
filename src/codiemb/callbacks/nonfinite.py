"""Stop at, or drop, an optimizer step whose loss or gradient is not finite, before it reaches the weights."""

import logging
import math
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from typing_extensions import override

from codiemb.batch import AnyBatch
from codiemb.data.batches import PlannedBatches
from codiemb.distributed import rank, world_size
from codiemb.errors import UserError
from codiemb.training.module import EmbeddingModule

log = logging.getLogger(__name__)

POLICIES = ("raise", "skip")
_SHOWN = 16  # examples named for each micro-batch


class _MicroBatch(NamedTuple):
    rank: int
    micro_step: int
    source: str
    loss: float
    examples: list[int]


class NonFiniteSteps(pl.Callback):
    """Looks at the losses and the gradient norm of every optimizer step.

    A line of the loggers has the mean norm of the steps since the line before it, as `train/grad_norm`; norms
    that are not finite are left out.

    One look per optimizer step costs one pass over the gradients and one wait for the device. All ranks
    decide together. A dropped step leaves weights and optimizer as they were; the schedule and the data go
    on, and `train/skipped_steps` counts it.

    Args:
        policy: `raise`, or `skip` such steps.

    Raises:
        UserError: an unknown policy.
    """

    def __init__(self, policy: str = "raise") -> None:
        if policy not in POLICIES:
            raise UserError(f"trainer.on_nan={policy!r} must be {' or '.join(POLICIES)}")
        self.policy = policy
        self.num_skipped = 0
        self._current = (0, "")  # micro-step and source
        self._seen: list[tuple[int, str, Tensor]] = []  # micro-step, source and loss since the last update
        self._looked_at: list[tuple[int, str, Tensor]] = []  # by DeepSpeed: those of the update to come

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"num_skipped": self.num_skipped}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_skipped = state_dict["num_skipped"]

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """DeepSpeed updates from its own copy of the gradients.

        Raises:
            UserError: steps cannot be dropped under this strategy.
        """
        if self.policy == "skip" and trainer.strategy.handles_gradient_accumulation:
            raise UserError(
                f"trainer.on_nan=skip cannot drop a step of {type(trainer.strategy).__name__}, which keeps "
                "the gradients to itself; use trainer.on_nan=raise or another strategy"
            )

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Remember which batch the next loss belongs to."""
        self._current = (batch_idx, batch.source)

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss on its device: looking at it now would wait for the forward pass."""
        self._seen.append((*self._current, loss.detach() * trainer.accumulate_grad_batches))

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Between the backward pass and clipping: raise, or leave the optimizer nothing to do.

        Raises:
            UserError: something is not finite on any rank, and the policy is `raise`.
        """
        seen, self._seen = self._seen, []
        checked = [loss for *_, loss in seen]
        norm = torch.zeros(())
        if trainer.strategy.handles_gradient_accumulation:
            self._looked_at += seen  # it is called for every micro-batch, and has the norm of all at the end
        else:
            norm = gradient_norm(pl_module)
            _log_norm(pl_module, norm)
            if getattr(trainer.precision_plugin, "scaler", None) is None:  # fp16's looks for overflow itself
                checked.append(norm.to(pl_module.device))
        # the one wait for the device in a step
        finite = bool(torch.stack(checked).isfinite().all()) if checked else True
        if trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        message = _describe(trainer.global_step, _of_all_ranks(trainer, seen), float(norm))
        if self.policy == "raise":
            raise UserError(
                f"{message}. Nothing of this step was written. Lower optimizer.lr, look at these "
                "records, or drop such steps with trainer.on_nan=skip (resume=true continues)"
            )
        self.num_skipped += 1
        log.warning("%s. Step dropped, %d so far", message, self.num_skipped)
        optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without a gradient

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """The count belongs to the step that has just ended, and so does the norm that DeepSpeed computed.

        Raises:
            UserError: that norm is not finite. (DeepSpeed drops such a step in half precision, not in fp32.)
        """
        if trainer.strategy.handles_gradient_accumulation:
            if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
                self._look_at_deepspeed(trainer, pl_module, batch_idx // trainer.accumulate_grad_batches)
            return
        if self.policy == "skip":
            pl_module.log("train/skipped_steps", float(self.num_skipped), batch_size=1)

    def _look_at_deepspeed(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> None:
        engine: Any = trainer.strategy.model
        looked_at, self._looked_at = self._looked_at, []
        norm = float(engine.get_global_grad_norm())
        _log_norm(pl_module, norm)
        is_fp16 = str(trainer.precision).startswith("16")  # whose loss scale is found by overflowing
        if not math.isfinite(norm) and not is_fp16:
            message = _describe(step, _of_all_ranks(trainer, looked_at), norm)
            raise UserError(
                f"{message}. DeepSpeed has looked at it before us: nothing of this step was saved. Lower "
                "optimizer.lr or look at these records (resume=true goes on from the last checkpoint)"
            )


def _log_norm(module: pl.LightningModule, norm: Tensor | float) -> None:
    if isinstance(module, EmbeddingModule):
        module.means.add("train/grad_norm", norm)


def gradient_norm(module: torch.nn.Module) -> Float[Tensor, ""]:
    """L2 norm over all gradients, of all shards where they are sharded; 0 where there are none."""
    norm = get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _of_all_ranks(trainer: pl.Trainer, seen: list[tuple[int, str, Tensor]]) -> list[_MicroBatch]:
    """Every rank's micro-batches of this step; only called when something is wrong."""
    batches = getattr(trainer.train_dataloader, "dataset", None)
    own = []
    for micro_step, source, loss in seen:
        planned = batches.shard(micro_step).indices if isinstance(batches, PlannedBatches) else ()
        examples = [int(i) for i in planned]
        own.append(_MicroBatch(rank(), micro_step, source, float(loss), examples))
    if world_size() == 1:
        return own
    parts: list[list[_MicroBatch]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, own)
    return [batch for part in parts for batch in part]


def _describe(step: int, batches: list[_MicroBatch], norm: float) -> str:
    """Step, sources and examples; of the batches with a bad loss or, if only the gradient is bad, of all."""
    bad = [batch for batch in batches if not math.isfinite(batch.loss)] or batches
    lines = [f"step {step}: the loss or its gradient (norm {norm:g}) is not finite"]
    for batch in bad:
        shown = ", ".join(map(str, batch.examples[:_SHOWN]))
        more = f" and {len(batch.examples) - _SHOWN} more" if len(batch.examples) > _SHOWN else ""
        lines.append(
            f"  loss {batch.loss:g} on rank {batch.rank}, micro-step {batch.micro_step}, "
            f"source {batch.source}, examples {shown}{more} (usable records of the source, from 0)"
        )
    return "\n".join(lines)
