"""On CPU: the same two functions by faster kernels, for a forward pass of thousands of packed tokens."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_MIN_TOKENS = 1_024  # below, laying out the weights for oneDNN costs more than its kernel gains
_MIN_WIDTH = 64
_RANDOM_VALUES = 1 << 16


def use_cpu_kernels(module: nn.Module) -> None:
    """Have every forward pass of a module on CPU run in `faster_on_cpu()`, recomputed ones included.

    Through hooks, so that whoever runs the module need not know. Inputs are on the device of the weights.
    """
    entered: list[AbstractContextManager[object]] = []

    def enter(module: nn.Module, inputs: object) -> None:
        on_cpu = next(module.parameters()).device.type == "cpu"
        entered.append(faster_on_cpu() if on_cpu else nullcontext())
        entered[-1].__enter__()

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        entered.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)  # also where the pass ends in an error


def faster_on_cpu() -> AbstractContextManager[object]:
    """A context in which `linear` and `dropout` run on other kernels.

    `linear` in fp32 is a convolution of width 1 over the stream, so that oneDNN computes it instead of the
    BLAS: on an AMD EPYC 1.05 to 1.3 times as fast from 2,048 tokens on; nor is the bias first copied into
    every row. `dropout` takes 16 random bits a value instead of a generator call: 2 ns instead of 6.4. A
    training step of a BERT is 1.05 to 1.08 times as fast, with dropout 1.4 times (experiments/LOG.md).
    """
    return _CpuKernels()


class _CpuKernels(TorchFunctionMode):
    """Hands calls to the functions below; a model need not know."""

    @no_type_check  # every operation on a tensor comes here; checking its `Any`s took half of some tests
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the function returns
        return _KERNELS.get(func, func)(*args, **(kwargs or {}))


def linear(
    input: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "*rows o"]:
    """`torch.nn.functional.linear`; in fp32 outside autocast, for many rows, by oneDNN's 1x1 convolution.

    Rows lie in memory as an image of height 1 whose channels are last, so nothing is copied. (In bf16 torch
    gives its products to oneDNN by itself.)
    """
    num_rows, narrowest = input.numel() // max(1, input.shape[-1]), min(weight.shape)
    if (
        num_rows < _MIN_TOKENS
        or narrowest < _MIN_WIDTH
        or not (input.dtype == weight.dtype == torch.float32)
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
    ):
        return F.linear(input, weight, bias)
    image = input.reshape(1, 1, num_rows, -1).permute(0, 3, 1, 2)
    output = F.conv2d(image, weight[:, :, None, None], bias)
    return output.permute(0, 2, 3, 1).reshape(*input.shape[:-1], len(weight))


def dropout(
    input: Float[Tensor, "..."], p: float = 0.5, training: bool = True, inplace: bool = False
) -> Float[Tensor, "..."]:
    """`torch.nn.functional.dropout` with p to the next multiple of 2^-16; what stays is scaled by that p.

    Four values share one draw of 64 bits from torch's generator, so a seed determines the mask here as well.
    """
    num_dropped = round(p * _RANDOM_VALUES)
    if not training or inplace or not 0 < num_dropped < _RANDOM_VALUES:
        return F.dropout(input, p, training, inplace)
    bits = torch.randint(-(2**63), 2**63 - 1, (-(-input.numel() // 4),)).view(torch.int16)
    kept = bits[: input.numel()].view(input.shape) >= num_dropped - _RANDOM_VALUES // 2
    return torch.where(kept, input * (_RANDOM_VALUES / (_RANDOM_VALUES - num_dropped)), 0.0)


_KERNELS: dict[Callable[..., Any], Callable[..., Any]] = {F.linear: linear, F.dropout: dropout}
