"""A model folder as a collection of tensors that are read one at a time."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from codiemb.encoder.model_files import is_adapter
from codiemb.errors import UserError
from codiemb.fusion.lora import Adapter, open_adapter
from codiemb.fusion.names import plain_names
from codiemb.json_files import COPY_AGAIN, OBJECT, read_json, take

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
        tensors: shape and dtype by plain name (names.plain_names).
        stored: the name in the files, by plain name.
        files: the file of each tensor, by plain name.
        adapter: merged into what is read.
    """

    name: str
    folder: Path
    tensors: dict[str, TensorInfo]
    stored: dict[str, str]
    files: dict[str, Path]
    adapter: Adapter | None = None

    def read(self, name: str) -> Tensor:
        """One tensor, its adapter merged."""
        with safe_open(self.files[name], "pt") as file:
            tensor: Tensor = file.get_tensor(self.stored[name])
        return tensor if self.adapter is None else self.adapter.merged(name, tensor)


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
    stored = plain_names({name: info.dtype for name, info in tensors.items()})
    if len(stored) < len(tensors):
        twice = min(tensors.keys() - stored.values())
        raise UserError(f"{path} has two tensors of one name: {twice}, with and without a prefix")
    return Checkpoint(
        str(path),
        folder,
        {name: tensors[key] for name, key in stored.items()},
        stored,
        {name: files[key] for name, key in stored.items()},
    )


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


def _with_adapter(folder: Path, name: str, base: str | Path | None) -> Checkpoint:
    adapter, named = open_adapter(folder)
    own = next((path for path in (named, base) if path is not None and Path(path).is_dir()), None)
    if own is None:
        raise UserError(f"{folder} is an adapter of {named!r}, which is no folder here; set fuse.base=FOLDER")
    merged = open_checkpoint(own)
    plain = {stored: name for name, stored in merged.stored.items()}
    adapter = adapter.renamed(plain)
    for weight, shape in adapter.shapes.items():
        if weight not in merged.tensors:
            raise UserError(f"{folder} adapts {weight}, which its base {own} does not have")
        if shape != merged.tensors[weight].shape:
            found = list(merged.tensors[weight].shape)
            raise UserError(f"{folder} adapts {weight} as {list(shape)}, but its base {own} has {found}")
    return replace(merged, name=name, adapter=adapter)


def _files(folder: Path) -> dict[str, Path]:
    """The file of every tensor: of a single file, or as the index of a sharded model says."""
    path = folder / INDEX_FILE
    if path.is_file():
        weight_map = take(read_json(path, {}, COPY_AGAIN), "weight_map", OBJECT, path, COPY_AGAIN) or {}
        if not weight_map:
            raise UserError(f"{path} has no weight_map, or an empty one; copy the folder again")
        return {name: _named_file(folder, name, file) for name, file in weight_map.items()}
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise UserError(
            f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}; pickled weights are not opened"
        )
    with safe_open(file, "pt") as opened:
        return dict.fromkeys(opened.keys(), file)


def _named_file(folder: Path, name: str, file: object) -> Path:
    """A file that an index names, which must lie in the folder, or among the blobs of a hub cache."""
    if not isinstance(file, str) or not file:
        raise UserError(f"{folder / INDEX_FILE}: weight_map.{name} is {file!r:.60}, not the name of a file")
    path = folder / file
    real, home = path.resolve(), folder.resolve()
    blobs = home.parents[1] / "blobs" if home.parent.name == "snapshots" else None
    named_inside = not Path(file).is_absolute() and ".." not in Path(file).parts
    if not named_inside or (not real.is_relative_to(home) and real.parent != blobs):
        raise UserError(
            f"{folder / INDEX_FILE}: weight_map.{name} is {file!r}, which lies outside the folder"
        )
    if not path.is_file():
        raise UserError(f"{folder}: {INDEX_FILE} names {path.name} for {name}, which is not there")
    return path


def _header(file: Path, names: list[str]) -> dict[str, TensorInfo]:
    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in names}
        return {name: TensorInfo(tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
