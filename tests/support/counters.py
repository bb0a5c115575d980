"""Counters: what is asked of torch.distributed, and the bytes of all tensors that live meanwhile."""

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# c10d's operations: their name here, and which argument is the whole tensor. `weights_`: one tensor in, one
# out, as strategies ask; a list of them is what codiemb.distributed asks
_OPERATIONS = {
    "allreduce_": ("all_reduce", 0),
    "allgather_": ("all_gather", 0),
    "_allgather_base_": ("weights_all_gather", 0),
    "_reduce_scatter_base_": ("weights_reduce_scatter", 1),
}


class Requests(TorchDispatchMode):
    """Numbers of every collective by operation and type, `all_reduce float32`, whoever asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if func.namespace == "c10d" and name in _OPERATIONS:
            operation, place = _OPERATIONS[name]
            for tensor in tensors(args[place]):
                self.numbers[f"{operation} {str(tensor.dtype).removeprefix('torch.')}"] += tensor.numel()
        return func(*args, **(kwargs or {}))

    @property
    def reduced(self) -> int:
        """Floating-point numbers that were summed over ranks."""
        return sum(n for key, n in self.numbers.items() if "reduce" in key and "float" in key)


class Live(TorchDispatchMode):
    """Bytes of all tensors made since the start that still live, in autograd's own buffers as well."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return out

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def tensors(tree: object) -> Sequence[Tensor]:
    """Those in any nest of lists and tuples."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
