"""A model folder as a collection of tensors that are read one at a time."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from codiemb.errors import UserError
from codiemb.fusion.adapter import ADAPTER_CONFIG, Adapter, open_adapter

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class TensorInfo(NamedTuple):
    """What a file's header says about a tensor; `dtype` in safetensors' spelling ("F32")."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """An opened model folder. `read` opens a file each time: its memory map must not outlive a tensor.

    Attributes:
        name: as the user gave it, for messages and records.
        folder: where config, tokenizer and weights lie.
        tensors: shape and dtype by name.
        files: the file of each tensor.
        adapter: merged into what is read.
        prefix: in front of every name in the files.
    """

    name: str
    folder: Path
    tensors: dict[str, TensorInfo]
    files: dict[str, Path]
    adapter: Adapter | None = None
    prefix: str = ""

    def read(self, name: str) -> Tensor:
        """One tensor, its adapter merged."""
        stored = self.prefix + name
        with safe_open(self.files[stored], "pt") as file:
            tensor: Tensor = file.get_tensor(stored)
        return tensor if self.adapter is None else self.adapter.merged(stored, tensor)


def open_checkpoint(path: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Read the headers of a folder's weights.

    Args:
        path: an export, a Hugging Face folder with safetensors, a run folder with an `export`, or a LoRA
            adapter of peft.
        base: what an adapter belongs to, where it names no local folder.

    Raises:
        UserError: the folder is not one of these, or damaged.
    """
    folder = Path(path)
    try:
        if is_adapter(folder):
            return _with_adapter(folder, str(path), base)
        folder = model_folder(folder)
        files = _files(folder)
        tensors: dict[str, TensorInfo] = {}
        for file in dict.fromkeys(files.values()):
            tensors |= _header(file, [name for name, where in files.items() if where == file])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read as a model: {error}") from error
    return Checkpoint(str(path), folder, tensors, files)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter without its model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG_FILE).is_file()


def model_folder(folder: Path) -> Path:
    """The folder itself, or the export of a run folder.

    Raises:
        UserError: it is neither.
    """
    for candidate in (folder, folder / "export"):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    problem = "has no config.json" if folder.is_dir() else "is no folder"
    raise UserError(
        f"{folder} {problem}: give an export, a Hugging Face folder, a LoRA adapter, or a run folder that "
        "finished its export"
    )


def read_json(path: Path) -> Any:  # noqa: ANN401  JSON
    """A JSON file, or None where there is none.

    Raises:
        UserError: it is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from error


def _with_adapter(folder: Path, name: str, base: str | Path | None) -> Checkpoint:
    adapter, named = open_adapter(folder)
    own = next((path for path in (named, base) if path is not None and Path(path).is_dir()), None)
    if own is None:
        raise UserError(f"{folder} is an adapter of {named!r}, which is no folder here; set fuse.base=FOLDER")
    merged = open_checkpoint(own)
    for weight in adapter.factors:
        if weight not in merged.tensors:
            raise UserError(f"{folder} adapts {weight}, which its base {own} does not have")
    return replace(merged, name=name, adapter=adapter)


def _files(folder: Path) -> dict[str, Path]:
    """The file of every tensor: of a single file, or as the index of a sharded model says."""
    index = read_json(folder / INDEX_FILE)
    if index is not None:
        files = {name: folder / file for name, file in index["weight_map"].items()}
        for name, file in files.items():
            if not file.is_file():
                raise UserError(f"{folder}: {INDEX_FILE} names {file.name} for {name}, which is not there")
        return files
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise UserError(
            f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}; pickled weights are not opened"
        )
    with safe_open(file, "pt") as opened:
        return dict.fromkeys(opened.keys(), file)


def _header(file: Path, names: list[str]) -> dict[str, TensorInfo]:
    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in names}
        return {name: TensorInfo(tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
