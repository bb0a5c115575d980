"""Lightning's sharded strategies, where they need a word from us so that none changes the maths."""

from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from codiemb.errors import UserError

if TYPE_CHECKING:
    from codiemb.training.deepspeed_files import CheckpointFiles


class Kind(Enum):
    """What a strategy does with weights and gradients; whatever depends on that asks `kind_of`."""

    WHOLE = auto()  # one device, or a strategy of which nothing is known
    DDP = auto()
    FSDP = auto()
    DEEPSPEED = auto()

    @property
    def shards_gradients(self) -> bool:
        """Whether a rank holds but a part of the gradients (ZeRO 1 keeps them to itself as well)."""
        return self in (Kind.FSDP, Kind.DEEPSPEED)


def kind_of(strategy: object) -> Kind:
    """The kind of a strategy's class."""
    if not isinstance(strategy, type):
        return Kind.WHOLE
    kinds = {DeepSpeedStrategy: Kind.DEEPSPEED, ModelParallelStrategy: Kind.FSDP, FSDPStrategy: Kind.FSDP}
    kinds[DDPStrategy] = Kind.DDP
    return next((kind for base, kind in kinds.items() if issubclass(strategy, base)), Kind.WHOLE)


class FSDP2(ModelParallelStrategy):
    """Weights, gradients and optimizer state sharded over all ranks; `EmbeddingModule` shards its encoder."""

    @override
    def setup_environment(self) -> None:
        """One mesh of all ranks: Lightning's default shards over nodes and splits tensors inside a node."""
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        super().setup_environment()

    @override
    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Lightning's asks for the first entry of the optimizer's state, and that of plain SGD has none."""
        path = self.broadcast(checkpoint_path)
        if Path(path).is_dir():  # save_distributed_checkpoint
            return super().load_checkpoint(path, weights_only)
        states = torch.load(path, mmap=True, map_location="cpu", weights_only=True)["optimizer_states"]
        if any(state["state"] for state in states):
            return super().load_checkpoint(path, weights_only)
        optimizers, self.optimizers = self.optimizers, []
        checkpoint = super().load_checkpoint(path, weights_only)
        self.optimizers = optimizers
        for optimizer, state in zip(optimizers, states, strict=True):
            for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
                group.update({key: value for key, value in saved.items() if key != "params"})
        return checkpoint


class _UnchangedInputs(DeepSpeedPrecision):
    """Lightning's would round the gold scores of a batch to bf16: 0.998 becomes 1, neighbours become ties."""

    @override
    def convert_input(self, data: Any) -> Any:
        """Token ids need no conversion, and scores meet fp32 embeddings."""
        return data


class DeepSpeed(DeepSpeedStrategy):
    """ZeRO 1 to 3. Lightning hands it the trainer's clipping, accumulation and precision."""

    _files: "CheckpointFiles"

    @override
    def setup(self, trainer: pl.Trainer) -> None:
        """DeepSpeed casts buffers together with the weights; rotary frequencies stay fp32.

        In bf16 an angle at position 1,000 is off by 0.7 rad (theta 1.6e6), and since they are computed anew
        when an export is loaded, it would not embed as the trained model does.
        """
        self.precision_plugin = _UnchangedInputs(cast(Any, self.precision_plugin.precision))
        assert self.lightning_module is not None
        kept = {
            name: buffer.clone()
            for name, buffer in self.lightning_module.named_buffers()
            if buffer.dtype == torch.float32
        }
        super().setup(trainer)
        for name, buffer in kept.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.lightning_module.get_submodule(path), leaf, buffer.to(self.root_device))
        from codiemb.training.deepspeed_files import CheckpointFiles  # imports DeepSpeed, which is optional

        engine = self.deepspeed_engine
        engine.checkpoint_engine = self._files = CheckpointFiles()
        # the one file of a checkpoint that goes past the engine and has a barrier and a gather behind it
        engine._copy_recovery_script = self._files.keeping_problems()(engine._copy_recovery_script)

    @override
    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any = None,
    ) -> None:
        """Write this rank's files into the folder.

        Raises:
            OSError: the disk refused one of them; raised when all ranks are past DeepSpeed's last barrier.
        """
        self._files.problem = None
        try:
            super().save_checkpoint(checkpoint, filepath, storage_options)
        except OSError as error:  # of rank 0's last file, `latest`: the others wait at the last barrier
            self._files.problem = self._files.problem or error
            self.barrier("not all written")
        if self._files.problem is not None:
            raise self._files.problem

    @override
    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read this rank's shards.

        Raises:
            UserError: another number of ranks wrote them, and DeepSpeed cannot share them out anew.
        """
        num_shards = len(list(Path(checkpoint_path).rglob("*_optim_states.pt")))
        if num_shards not in (0, self.world_size):
            raise UserError(
                f"{checkpoint_path} holds the optimizer's state in {num_shards} shards, and DeepSpeed cannot "
                f"share them out over {self.world_size} ranks: resume with {num_shards}"
            )
        return super().load_checkpoint(checkpoint_path, weights_only)

    @override
    def backward(
        self,
        closure_loss: Tensor,
        optimizer: Optimizer | None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Lightning has divided the loss by the number of micro-batches; DeepSpeed must not do so again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)
