"""Python code that comes with a model: written for an older transformers, and run with what that had."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import Any, TypedDict, TypeVar

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, dynamic_module_utils, pytorch_utils
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from codiemb.encoder.spec import ModelSpec
from codiemb.errors import UserError

Value = TypeVar("Value")


class LossKwargs(TypedDict, total=False):
    """Arguments of a loss: a type that hub code annotates with."""

    num_items_in_batch: int


class NeverMade:
    """Stands in for a class that hub code asks for by `isinstance`, or derives another from."""


def _absent() -> bool:
    return False


def _gone(name: str) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:  # noqa: ANN401  as it was
        raise NotImplementedError(f"{name} was removed from transformers; embedding does not need it")

    return call


def default_rope(
    config: PreTrainedConfig, device: torch.device | None = None, **_: object
) -> tuple[torch.Tensor, float]:
    """The inverse frequencies of a rotary embedding without scaling (RoFormer, 3.2.2), and a factor of 1.

    transformers 5 took it out of ROPE_INIT_FUNCTIONS: its own models compute it themselves.
    """
    parameters = getattr(config, "rope_parameters", None) or {}
    theta: float = getattr(config, "rope_theta", None) or parameters["rope_theta"]
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(width * parameters.get("partial_rotary_factor", 1.0))
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    return 1.0 / theta**exponents, 1.0


_PRUNE = _gone("find_pruneable_heads_and_indices")
# What text models of transformers 4.51.3 import from its shared modules and 5.x does not have. Nothing but
# code that is read while they are lent gets them; a name that is there is left as it is.
_NAMES: Mapping[str, Mapping[str, object]] = {
    "transformers.utils": {
        "LossKwargs": LossKwargs,
        "is_torch_fx_available": _absent,
        "is_tf_available": _absent,
        "is_flax_available": _absent,
    },
    "transformers.utils.import_utils": {"is_torch_fx_available": _absent},
    "transformers.cache_utils": {"HybridCache": NeverMade, "HybridChunkedCache": NeverMade},
    "transformers.pytorch_utils": {
        "find_pruneable_heads_and_indices": _PRUNE,
        "prune_conv1d_layer": _gone("prune_conv1d_layer"),
    },
    "transformers.modeling_utils": {
        "find_pruneable_heads_and_indices": _PRUNE,
        "prune_linear_layer": pytorch_utils.prune_linear_layer,
        "apply_chunking_to_forward": pytorch_utils.apply_chunking_to_forward,
    },
}
_MODULES: Mapping[str, Mapping[str, object]] = {
    "transformers.onnx": {"OnnxConfig": NeverMade, "OnnxConfigWithPast": NeverMade},
}


def may_run_code(spec: ModelSpec) -> AbstractContextManager[None]:
    """Around whatever may import a model's own code: the removed names, where the user allowed such code."""
    return lent_names() if spec.trust_remote_code else nullcontext()


@contextmanager
def lent_names() -> Iterator[None]:
    """The names of `_NAMES` are there until the block ends, and then out again."""
    with ExitStack() as stack:
        for module, names in _NAMES.items():
            stack.enter_context(_lent(vars(importlib.import_module(module)), names))
        for module, names in _MODULES.items():
            made = ModuleType(module)
            vars(made).update(names)
            stack.enter_context(_lent(sys.modules, {} if _exists(module) else {module: made}))
        stack.enter_context(_lent(ROPE_INIT_FUNCTIONS, {"default": default_rope}))
        yield


@contextmanager
def no_code(name: str) -> Iterator[None]:
    """Refuse, until the block ends, to import any model's code, whatever a loader asks of transformers.

    Raises:
        UserError: inside the block, as soon as such code would be imported.
    """

    def refuse(*_: object, **__: object) -> type:
        raise UserError(
            f"{name} brings its own Python code; read it, then allow it with model.trust_remote_code=true"
        )

    before = dynamic_module_utils.get_class_in_module
    dynamic_module_utils.get_class_in_module = refuse
    try:
        yield
    finally:
        dynamic_module_utils.get_class_in_module = before


@torch.no_grad()
def restore_buffers(backbone: PreTrainedModel, spec: ModelSpec) -> list[str]:
    """Give hub code's buffers, which no file holds, the values that its constructor gives them.

    transformers 5 builds a model without memory and fills such buffers in `_init_weights`; code that was
    written before knows nothing of that, and its rotary frequencies stay whatever was in memory: no error,
    and another embedding. Costs the constructor once more, without memory for weights.

    Returns:
        The names of the buffers that were wrong.
    """
    if not backbone.is_custom_code():
        return []
    with init_empty_weights(include_buffers=False):
        fresh = AutoModel.from_config(backbone.config, trust_remote_code=spec.trust_remote_code)
    kept = backbone.state_dict().keys()
    right = {name: buffer for name, buffer in fresh.named_buffers() if name not in kept}
    wrong = []
    for name, buffer in backbone.named_buffers():
        if name in right and not torch.equal(buffer.cpu(), right[name].to(buffer.dtype).cpu()):
            wrong.append(name)
            _set_buffer(backbone, name, right[name].to(buffer.device))
    return wrong


def _set_buffer(model: nn.Module, name: str, value: torch.Tensor) -> None:
    """Also where the constructor made two names of one tensor (`original_inv_freq`)."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    module.register_buffer(leaf, value, persistent=False)
    if leaf == "inv_freq" and isinstance(getattr(module, "original_inv_freq", None), torch.Tensor):
        module.original_inv_freq = value


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _lent(owner: MutableMapping[str, Value], values: Mapping[str, Any]) -> Iterator[None]:
    absent = {name: value for name, value in values.items() if name not in owner}
    owner.update(absent)
    try:
        yield
    finally:
        for name in absent:
            owner.pop(name, None)
