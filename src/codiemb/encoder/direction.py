"""Which tokens a model's states depend on, by exact gradients: the scale of weights does not matter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from codiemb.encoder.encoder import Backbone


class Direction(NamedTuple):
    """What the outputs of one module (a layer, its attention, the whole model) depend on."""

    name: str
    ahead: bool  # an earlier token's output on a later token's input
    back: bool  # a later token's output on an earlier token's input


class _Call(NamedTuple):
    name: str
    given: Tensor
    returned: Tensor


def directions(backbone: Backbone, run: Callable[[], Tensor], num_tokens: int) -> list[Direction]:
    """Where each part of the model looks while `run` passes one text of `num_tokens` through it.

    The whole model comes first, under its class name, then its layers and what they are made of, down to
    modules without children. Masked attention has a probability of exactly zero, so a zero gradient is a
    proof, and any other value is one as well. Costs about three forward passes: most gradients stay within
    one module. `num_tokens` must differ from every other size of the model, to be told from them.

    Raises:
        RuntimeError: the model does not make one state of every token embedding.
    """
    calls: list[_Call] = []
    handles = [
        module.register_forward_hook(_recorder(name, calls, num_tokens), with_kwargs=True)
        for name, module in _parts(backbone)
    ]
    try:
        with torch.enable_grad(), embedded(backbone) as embeddings:
            last = run()
    finally:
        for handle in handles:
            handle.remove()
    if not embeddings or embeddings[0].shape[1] < num_tokens or not last.requires_grad:
        raise RuntimeError("it does not make one state of every token embedding")
    whole = _Call(type(backbone).__name__, embeddings[0], last)
    return [_direction(call, num_tokens) for call in (whole, *calls)]


@contextmanager
def embedded(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Inside, the embeddings of every pass are leaves of the graph, and are kept in the list."""
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]) -> Any:  # noqa: ANN401
        first, *rest = output if isinstance(output, tuple) else (output,)
        leaves.append(first.detach().requires_grad_())
        fresh = leaves[-1].clone()  # some models go on in place, which a leaf forbids
        return (fresh, *rest) if isinstance(output, tuple) else fresh

    handle = backbone.get_input_embeddings().register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()


def _parts(backbone: Backbone) -> Iterator[tuple[str, nn.Module]]:
    """Layers and the modules in them that have children; a layer is what lies in a list of modules."""
    lists = [name for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in backbone.named_modules():
        inside = any(name.startswith(f"{each}.") for each in lists)
        if inside and any(True for _ in module.children()) and not isinstance(module, BaseTunerLayer):
            yield f"{name} ({type(module).__name__})", module


def _recorder(name: str, calls: list[_Call], num_tokens: int) -> Callable[..., None]:
    def record(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ANN401  any model's
        given = _token_states((*args, *kwargs.values()), num_tokens)
        returned = _token_states(output if isinstance(output, tuple) else (output,), num_tokens)
        if given is not None and returned is not None:
            calls.append(_Call(name, given, returned))

    return record


def _token_states(values: tuple[Any, ...], num_tokens: int) -> Tensor | None:
    """The first tensor among them with a row of features for every token of the one text."""
    return next(
        (x for x in values if isinstance(x, Tensor) and x.requires_grad and num_tokens in x.shape[:-1]), None
    )


def _direction(call: _Call, num_tokens: int) -> Direction:
    ahead = _depends(call, num_tokens, of=0, on=slice(1, num_tokens))
    # a part that looks ahead is attention; whether it also looks back is nobody's question
    back = ahead or _depends(call, num_tokens, of=-1, on=slice(0, num_tokens - 1))
    return Direction(call.name, ahead, back)


def _depends(call: _Call, num_tokens: int, *, of: int, on: slice) -> bool:
    """A gradient that overflows (float16) is tried again, smaller, and then proves nothing."""
    output = _tokens_first(call.returned, num_tokens)[of]
    projection = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    for scale in (1.0, 2.0**-12):
        (gradient,) = torch.autograd.grad(
            output, call.given, projection * scale, retain_graph=True, materialize_grads=True
        )
        if gradient.isfinite().all():
            return bool(_tokens_first(gradient, num_tokens)[on].any())
    return False


def _tokens_first(states: Tensor, num_tokens: int) -> Tensor:
    """Where no axis is as long as the text, its row was filled up (Longformer)."""
    shape = list(states.shape[:-1])
    return states.movedim(shape.index(num_tokens) if num_tokens in shape else 1, 0)
