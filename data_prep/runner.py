"""Run one step: a folder in, a folder out, with a manifest; killed at any point it goes on where it was."""

import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from codiemb.atomic import sync, write_text
from codiemb.errors import UserError
from data_prep.layout import CANDIDATES, SOURCE, tables_of
from data_prep.manifest import MANIFEST, checked_tasks, hash_file, identity, read_manifest, write_manifest
from data_prep.one_writer import only_writer
from data_prep.options import as_values
from data_prep.step import Step, Work

STEPS = (
    "fetch",
    "clean",
    "dedup",
    "decontaminate",
    "synthesise",
    "mine",
    "relabel",
    "filter",
    "export",
    "stats",
    "audit",
)
PARTIAL = ".partial"
_IDENTITY = "identity.json"
_DISK = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "choose another --out",
    errno.EACCES: "give your user the right to read and write there",
    errno.EPERM: "give your user the right to read and write there",
}


def load_step(name: str) -> Step[Any]:
    """The step of that name."""
    step: Step[Any] = import_module(f"data_prep.steps.{name}").STEP
    return step


def is_done(folder: Path, key: str) -> bool:
    """Whether a folder holds the result of this identity, with files of the sizes that were written."""
    return read_manifest(folder).get("identity") == key and not _changed(folder)


def _changed(folder: Path) -> list[str]:
    """Files of a folder that are gone or have another size than its manifest says."""
    return [
        name
        for name, about in read_manifest(folder)["files"].items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != about["bytes"]
    ]


def run_step(name: str, sources: Sequence[Path], out: Path, options: Any) -> bool:  # noqa: ANN401  its dataclass
    """Run a step unless its result is there already; says which, and whether it ran.

    Raises:
        UserError: a folder to read is none, or that to write to holds something else.
    """
    step, started = load_step(name), time.monotonic()
    about = describe(name, step, sources, options)
    if is_done(out, about["identity"]):
        print(f"{name}: {out} is there, and what it was made from has not changed")
        return False
    _refuse_foreign(out)
    with _unfinished(out, about["identity"]) as folder:
        about["inputs"] = [
            {"folder": os.path.relpath(source, out), "manifest": key}
            for source, key in zip(sources, about["inputs"], strict=True)
        ]
        result, parts = folder / "out", folder / "parts"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        parts.mkdir(exist_ok=True)
        read = [Path(source) for source in sources]
        work = Work(name, read, result, parts, options, about["depends_on"], out)
        added = dict(step.run(work) or {})
        if checked := checked_tasks(sources, added.pop("checked_against", ())):
            added["checked_against"] = checked
        if step.makes_source:
            _take_over(sources, result)
        write_manifest(result, {**about, **added}, list(sources))
        _put_in_place(result, out)
    print(f"{name}: {out} ({time.monotonic() - started:.0f} s){_counts(out)}{_what_next(out, name)}")
    return True


def describe(name: str, step: Step[Any], sources: Sequence[Path], options: Any) -> dict[str, Any]:  # noqa: ANN401
    """What the result follows from, and the hash of that."""
    about: dict[str, Any] = {
        "step": name,
        "version": step.version,
        "parameters": as_values(options),
        "inputs": [hash_file(_manifest(source)) for source in sources],
        "depends_on": dict(step.depends_on(options)),
    }
    return about | {"identity": identity(about)}


def _manifest(source: Path) -> Path:
    path = source / MANIFEST
    if not path.is_file():
        unfinished = _partial(source).is_dir()
        hint = (
            "the step that writes it was interrupted; run it again"
            if unfinished
            else "no step wrote this folder"
        )
        raise UserError(f"{path}: no such file; {hint}")
    if changed := _changed(source):
        raise UserError(
            f"{source / changed[0]}: not what the step wrote, by its size in {MANIFEST}: it was changed or "
            "cut off since. Run that step again, or give what was changed to: python -m data_prep fetch"
        )
    return path


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out}: holds something that no step wrote ({MANIFEST} is missing); choose another --out"
        )


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}{PARTIAL}")


@contextmanager
def _unfinished(out: Path, key: str) -> Iterator[Path]:
    """The folder of a run that is not finished; it stays when the run is killed, and goes when it is done."""
    folder = _partial(out)
    with _named_disk_errors(out), only_writer(folder, out):
        try:
            if not _begin(folder, key) and any((folder / "parts").glob("*")):
                print(f"{out}: going on where an earlier run was interrupted", file=sys.stderr)
            yield folder
            shutil.rmtree(folder)
        except UserError:
            if not any((folder / "parts").glob("*")):  # nothing to go on with
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _begin(folder: Path, key: str) -> bool:
    """Whether a run of this key starts anew: what one of another key has left goes."""
    if _key_of(folder) == key:
        return False
    shutil.rmtree(folder / "parts", ignore_errors=True)
    write_text(folder / _IDENTITY, json.dumps({"identity": key}) + "\n")
    return True


def shared_work(name: str, sources: Sequence[Path], out: Path, options: Any, *, begin: bool) -> Work[Any]:  # noqa: ANN401
    """The work of a step whose pieces several processes make, before `run_step` puts them together.

    Args:
        name: of the step.
        sources: the folders to read.
        out: the folder that `run_step` will write.
        options: the step's.
        begin: make the folder of the pieces; once, before the others look for it.

    Raises:
        UserError: the pieces there are of another input, other options or another version of a library.
    """
    step = load_step(name)
    about, folder = describe(name, step, sources, options), _partial(out)
    if begin:
        _refuse_foreign(out)
        with _named_disk_errors(out), only_writer(folder, out):
            _begin(folder, about["identity"])
            (folder / "parts").mkdir(exist_ok=True)
    elif _key_of(folder) != about["identity"]:
        raise UserError(
            f"{folder}: was begun with another input, other options or other versions than here; install the "
            "same packages on all machines, and begin again"
        )
    return Work(name, [Path(source) for source in sources], folder / "out", folder / "parts", options,
                about["depends_on"], out)  # fmt: skip


@contextmanager
def _named_disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise UserError(
            f"{error.filename or out}: {error.strerror or error}; {_DISK[error.errno]}, and run it again: "
            "it goes on where it was"
        ) from error


def _key_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _IDENTITY).read_text("utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take_over(sources: Sequence[Path], result: Path) -> None:
    """Tables that the step did not write, as links where the disk can."""
    for source in sources:
        for name in [SOURCE, *tables_of(source)]:
            if not (result / name).exists():
                link(source / name, result / name)


def link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where the disk has no links."""
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def _put_in_place(result: Path, out: Path) -> None:
    for path in [*result.rglob("*"), result]:
        sync(path)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(result, out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _counts(out: Path) -> str:
    """Per table: rows that are kept, and what this step dropped."""
    lines = []
    for table, rows in read_manifest(out)["rows"].items():
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in rows["dropped"].items())
        label = table.removesuffix(".parquet").replace(f"{CANDIDATES}/", f"{CANDIDATES} ")
        lines.append(
            f"\n  {label}: {rows['kept']:,} of {rows['out']:,} kept"
            + (f"; dropped: {dropped}" if dropped else "")
        )
    return "".join(lines)


def _what_next(out: Path, name: str) -> str:
    """The page to open, or the files to train on."""
    lines = [f"\n  open {page}" for page in sorted(out.glob("*.html"))]
    for ending in ("jsonl", "jsonl.gz", "jsonl.zst", "parquet") if name == "export" else ():
        if files := list(out.glob(f"*.{ending}")):
            files = files if len(files) == 1 else [out / f"*.{ending}"]
            lines.append(f"\n  train on it: python run_train.py data=files 'data.files=[{files[0]}]'")
    return "".join(lines)
