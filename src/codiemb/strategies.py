"""Lightning's sharded strategies, where they need a word from us so that none changes the maths."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch import Tensor
from torch.optim import Optimizer


class FSDP2(ModelParallelStrategy):
    """Weights, gradients and optimizer state sharded over all ranks; `EmbeddingModule` shards its encoder."""

    def setup_environment(self) -> None:
        """One mesh of all ranks: Lightning's default shards over nodes and splits tensors inside a node."""
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        super().setup_environment()


class _UnchangedInputs(DeepSpeedPrecision):
    """Lightning's would round the gold scores of a batch to bf16: 0.998 becomes 1, neighbours become ties."""

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401  Lightning's signature
        """Token ids need no conversion, and scores meet fp32 embeddings."""
        return data


class DeepSpeed(DeepSpeedStrategy):
    """ZeRO 1 to 3. Lightning hands it the trainer's clipping, accumulation and precision."""

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

    def backward(
        self,
        closure_loss: Tensor,
        optimizer: Optimizer | None,
        *args: Any,  # noqa: ANN401  Lightning's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Lightning has divided the loss by the number of micro-batches; DeepSpeed must not do so again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)
