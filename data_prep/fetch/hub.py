"""Bring a recipe's files to this disk: from the Hugging Face hub, from GitHub, or from an address."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from codiemb.atomic import write_text
from codiemb.errors import UserError
from codiemb.hub import TIMEOUT_SECONDS, hub_is_reachable, is_unavailable
from data_prep.fetch.raw import list_files
from data_prep.fetch.recipe import Recipe, fitting, refuse_none
from data_prep.progress import Progress

_GITHUB = "https://github.com/"
_CHUNK = 1 << 20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error)


def download(recipe: Recipe, folder: Path) -> None:
    """The files of a recipe into a folder; a revision that is there whole is not asked for again.

    A token is taken from HF_TOKEN and from nowhere else, and is written nowhere.

    Raises:
        UserError: out of reach (after 5 seconds), no such repository or revision, no right, or no file fits.
    """
    whole = folder / f".{recipe.revision}"
    if whole.is_file():
        return
    if recipe.repository.startswith(_GITHUB):
        # GitHub gives single files by their whole name only, and a list of names not without an account
        name = recipe.repository.removeprefix(_GITHUB).strip("/")
        _save(
            recipe, f"https://codeload.github.com/{name}/tar.gz/{recipe.revision}", folder / _archive(recipe)
        )
    elif recipe.repository.startswith("https://"):
        _save(recipe, recipe.repository, folder / _archive(recipe))
    else:
        _from_hub(recipe, folder)
    write_text(whole, "fetched whole; remove this file to fetch it again\n")


def unpacked(recipe: Recipe, folder: Path, scratch: Path) -> Path:
    """The folder that holds the recipe's files: the given one, or `scratch` if they lie in an archive in it.

    Raises:
        UserError: an archive is damaged or cut off.
    """
    present = list_files(folder)
    if all(fitting(present, [pattern]) for pattern in recipe.patterns):
        return folder
    if (whole := _archive(recipe)) in present:
        _unpack(folder / whole, recipe.unpack or recipe.patterns, scratch)
        folder, present = scratch, list_files(scratch)
    for name in fitting(present, recipe.unpack):
        _unpack(folder / name, recipe.patterns, scratch)
    return scratch if scratch.is_dir() else folder


def _archive(recipe: Recipe) -> str:
    """What the whole repository is called on this disk, where it comes as one archive."""
    if recipe.repository.startswith(_GITHUB):
        return f"{recipe.repository.rstrip('/').rpartition('/')[2]}-{recipe.revision[:12]}.tar.gz"
    return recipe.repository.rpartition("/")[2] if recipe.repository.startswith("https://") else ""


def _unpack(archive: Path, patterns: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, patterns, folder)
    except _BROKEN as error:
        raise UserError(f"{archive}: cannot be unpacked ({error}); remove it and fetch it again") from error


def _from_hub(recipe: Recipe, folder: Path) -> None:
    if not hub_is_reachable():
        raise _unreachable(recipe, "the Hugging Face hub")
    about: dict[str, Any] = {
        "repo_type": "dataset",
        "revision": recipe.revision,
        "token": os.environ.get("HF_TOKEN") or False,  # not the file that a login has left
    }
    try:
        present = HfApi().list_repo_files(recipe.repository, **about)
        names = _fitting(recipe, present)
        snapshot_download(recipe.repository, allow_patterns=names, local_dir=folder, **about)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(
            f"{recipe.repository} at {recipe.revision}: {str(error).strip().splitlines()[-1]}; ask "
            "for access on its page and set HF_TOKEN, or name a folder that holds the files: --from FOLDER"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        if not is_unavailable(error):
            raise
        raise _unreachable(recipe, "the Hugging Face hub") from error


def _fitting(recipe: Recipe, present: Sequence[str]) -> list[str]:
    patterns = recipe.unpack or recipe.patterns
    for pattern in patterns:
        if not fitting(present, [pattern]):
            raise refuse_none(f"{recipe.repository} at {recipe.revision}", pattern, present)
    return fitting(present, patterns)


def _save(recipe: Recipe, address: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        for chunk in _chunks(recipe, address):
            file.write(chunk)
    os.replace(unfinished, path)


def _chunks(recipe: Recipe, address: str) -> Iterator[bytes]:
    """The bytes at an address; errors of the network are told as such, those of the disk are not."""
    done = 0
    try:
        with urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            progress = Progress(f"fetch {recipe.name}", size, "bytes")
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                progress.advance(len(chunk))
                yield chunk
    except HTTPError as error:
        raise UserError(
            f"{address}: {error.code} {error.reason}; correct repository and revision of the recipe"
        ) from error
    except (URLError, TimeoutError, ConnectionError) as error:
        raise _unreachable(recipe, address) from error
    if size and done != size:
        raise UserError(f"{address}: ended after {done:,} of {size:,} bytes; run the step again")


def _unreachable(recipe: Recipe, what: str) -> UserError:
    files = ", ".join(recipe.unpack or recipe.patterns)
    return UserError(
        f"{what} is out of reach; fetch {files} of {recipe.repository} (revision {recipe.revision}) where it "
        "is in reach, and name the folder that holds them: --from FOLDER"
    )


def _unzip(archive: Path, patterns: Sequence[str], folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in fitting([member.filename for member in file.infolist() if not member.is_dir()], patterns):
            file.extract(name, folder)


def _untar(archive: Path, patterns: Sequence[str], folder: Path) -> None:
    """As a stream: its names are not known before it has been read, and reading it once is enough."""
    with tarfile.open(archive, "r|*") as file:
        for member in file:
            if member.isfile() and fitting([member.name], patterns):
                file.extract(member, folder, filter="data")
