"""Lightning's sharded strategies, where they need a word from us so that none changes the maths."""

from typing import Any

from pytorch_lightning.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch import Tensor
from torch.optim import Optimizer


class FSDP2(ModelParallelStrategy):
    """Weights, gradients and optimizer state sharded over all ranks; `EmbeddingModule` shards its encoder."""

    def setup_environment(self) -> None:
        """One mesh of all ranks: Lightning's default shards over nodes and splits tensors inside a node."""
        self._data_parallel_size, self._tensor_parallel_size = self.world_size, 1
        super().setup_environment()


class DeepSpeed(DeepSpeedStrategy):
    """ZeRO 1 to 3. Lightning hands it the trainer's clipping, accumulation and precision."""

    def backward(
        self,
        closure_loss: Tensor,
        optimizer: Optimizer | None,
        *args: Any,  # noqa: ANN401  Lightning's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Lightning has divided the loss by the number of micro-batches; DeepSpeed must not do so again."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)
