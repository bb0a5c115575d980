"""Write a model's weights file by file while they are computed, under the names that transformers reads."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from codiemb.atomic import write_text
from codiemb.fusion.checkpoint import INDEX_FILE, WEIGHTS_FILE


class Shards:
    """Collects tensors and writes a file whenever they reach `max_bytes`; holds no more than that."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._pending: dict[str, Tensor] = {}
        self._written: list[dict[str, int]] = []  # bytes of each tensor, per file

    def add(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor until its file is full."""
        self._pending[name] = tensor
        if sum(kept.nbytes for kept in self._pending.values()) >= self.max_bytes:
            self._write()

    def close(self) -> None:
        """Write the rest; give the files their final names, and an index if there are several."""
        if self._pending:
            self._write()
        count = len(self._written)
        several = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        names = several if count > 1 else [WEIGHTS_FILE]
        for number, name in enumerate(names):
            self._file(number).rename(self.folder / name)
        if count > 1:
            weight_map = {
                key: name for name, sizes in zip(names, self._written, strict=True) for key in sizes
            }
            total = sum(sum(sizes.values()) for sizes in self._written)
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            write_text(self.folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")

    def _write(self) -> None:
        save_file(self._pending, self._file(len(self._written)), metadata={"format": "pt"})
        self._written.append({name: tensor.nbytes for name, tensor in self._pending.items()})
        self._pending = {}

    def _file(self, number: int) -> Path:
        return self.folder / f"shard-{number}.safetensors"
